/* visitor.c: see visitor.h. */
#include "serve/http/visitor.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

enum { COOKIE_DAYS = 90 };

/* A browser sends a host's cookies to all its ports: a server with a key of its own must not take
 * the place of a labeller's token. Two servers of one database share it, as they should. */
static const char *cookie_of(const Visitors *v) { return v->l ? "rhetor" : "rhetor-key"; }

static bool knows(const Visitors *v, const char *token, int64_t *labeller, bool *admin) {
    if (v->l) return (*labeller = label_whose(v->l, token, admin)) != 0;
    return !v->key || (token && http_equal(token, v->key));
}

bool visitor_enters(const Visitors *v, const HttpRequest *q, HttpReply *r) {
    const bool get = strcmp(q->method, "GET") == 0 && strcmp(q->path, "/enter") == 0;
    if (!get && !(strcmp(q->method, "POST") == 0 && strcmp(q->path, "/api/enter") == 0))
        return false;
    const char *token = http_query(q, "token");
    json_auto_t *body = get ? NULL : http_body(q, r, 4);
    int64_t labeller;
    bool admin;
    if (!get && !body) return true;
    if (!get) token = json_string_value(json_object_get(body, "token"));
    if (!token || !knows(v, token, &labeller, &admin)) {
        http_error(r, 403, "nobody has this token");
        return true;
    }
    /* of a token that is ours; what else a cookie could be made of is not */
    if (strspn(token, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") ==
        strlen(token))
        r->cookie = xasprintf("%s=%s; HttpOnly; SameSite=Strict; Path=/; Max-Age=%d", cookie_of(v),
                              token, COOKIE_DAYS * 86400);
    if (get) {
        r->status = 303;
        r->location = xstrdup("/");
    } else
        http_json(r, 200, json_pack("{s:b}", "ok", 1));
    return true;
}

bool visitor_may(const Visitors *v, const HttpRequest *q, int64_t *labeller, bool *admin) {
    const char *bearer = http_header(q, "Authorization");
    *labeller = 0;
    *admin = false;
    if (bearer && strncmp(bearer, "Bearer ", 7) == 0 && (v->l || v->key))
        return knows(v, bearer + 7, labeller, admin);
    return http_same_origin(q) && knows(v, http_cookie(q, cookie_of(v)), labeller, admin);
}
