/* visitor.h: who asks: tokens, cookies and requests that other sites' pages made. */
#ifndef SERVE_HTTP_VISITOR_H
#define SERVE_HTTP_VISITOR_H

#include "serve/http/http.h"
#include "serve/http/label.h"

/* Who may come in. Neither: everybody who reaches the server. */
typedef struct Visitors {
    Label *l;        /* labellers */
    const char *key; /* or who knows this */
} Visitors;

/* A visitor's first request brings the token, in the query of /enter or in the body of POST
 * /api/enter; from then on it is in a cookie that no script sees and no other site's request
 * carries. true: the request was one of these and is answered. */
bool visitor_enters(const Visitors *v, const HttpRequest *q, HttpReply *r);

/* May they? By the cookie or "Authorization: Bearer"; not if another site's page asks. *labeller:
 * who it is, 0 where v has none. */
bool visitor_may(const Visitors *v, const HttpRequest *q, int64_t *labeller, bool *admin);

#endif
