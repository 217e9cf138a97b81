/* visitor.h: who asks: tokens, cookies and requests that other sites' pages made. */
#ifndef SERVE_HTTP_VISITOR_H
#define SERVE_HTTP_VISITOR_H

#include "serve/http/http.h"
#include "serve/http/label.h"

/* A visitor's first request brings the token, in the query of /enter or in the body of POST
 * /api/enter; from then on it is in a cookie that no script sees and no other site's request
 * carries. true: the request was one of these and is answered. */
bool visitor_enters(Label *l, const HttpRequest *q, HttpReply *r);

/* The labeller by the cookie or "Authorization: Bearer"; 0: nobody, or another site's page asks. */
int64_t visitor_of(Label *l, const HttpRequest *q, bool *admin);

#endif
