/* visitor.c: see visitor.h. */
#include "serve/http/visitor.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

#define COOKIE "rhetor"
enum { COOKIE_DAYS = 90 };

bool visitor_enters(Label *l, const HttpRequest *q, HttpReply *r) {
    const bool get = strcmp(q->method, "GET") == 0 && strcmp(q->path, "/enter") == 0;
    if (!get && !(strcmp(q->method, "POST") == 0 && strcmp(q->path, "/api/enter") == 0))
        return false;
    const char *token = http_query(q, "token");
    json_auto_t *body = get ? NULL : http_body(q, r, 4);
    bool admin;
    if (!get && !body) return true;
    if (!get) token = json_string_value(json_object_get(body, "token"));
    if (!label_whose(l, token, &admin)) {
        http_error(r, 403, "no labeller has this token; \"rhetor-label token\" makes one");
        return true;
    }
    r->cookie = xasprintf(COOKIE "=%s; HttpOnly; SameSite=Strict; Path=/; Max-Age=%d", token,
                          COOKIE_DAYS * 86400);
    if (get) {
        r->status = 303;
        r->location = xstrdup("/");
    } else
        http_json(r, 200, json_pack("{s:b}", "ok", 1));
    return true;
}

int64_t visitor_of(Label *l, const HttpRequest *q, bool *admin) {
    const char *bearer = http_header(q, "Authorization"), *token = http_cookie(q, COOKIE);
    *admin = false;
    if (bearer && strncmp(bearer, "Bearer ", 7) == 0) return label_whose(l, bearer + 7, admin);
    return http_same_origin(q) ? label_whose(l, token, admin) : 0;
}
