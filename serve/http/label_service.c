/* label_service.c: see label_service.h. */
#include "serve/http/label_service.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "serve/http/label_report.h"
#include "serve/http/pages.h"
#include "serve/http/visitor.h"

enum { DEPTH_MAX = 8 };

typedef struct LabelCall {
    Label *l;
    int64_t labeller;
    bool admin;
    const json_t *body;
    HttpReply *r;
} LabelCall;

static void reply_error(HttpReply *r, int rc) {
    http_error(r, rc == ERR_DATA ? 422 : 500, "%s", error_message());
}

static int64_t assignment_of(const LabelCall *c) {
    return json_integer_value(json_object_get(c->body, "assignment"));
}

static int get_task(LabelCall *c) {
    json_auto_t *task = NULL, *progress = NULL;
    TRY(label_task(c->l, c->labeller, &task));
    TRY(label_progress(c->l, c->labeller, &progress));
    AUTOFREE char *name =
        sql_text(c->l->db, "SELECT name FROM labeller WHERE id = ?", "i", c->labeller);
    http_json(c->r, 200,
              json_pack("{s:s, s:b, s:O, s:O, s:O}", "labeller", name ? name : "", "admin",
                        c->admin, "form", c->l->form, "progress", progress, "task", task));
    return 0;
}

static int done(LabelCall *c, int rc) {
    if (rc >= 0) http_json(c->r, 200, json_pack("{s:b, s:i}", "ok", 1, "n", rc));
    return rc;
}

static int post_answer(LabelCall *c) {
    return done(c, label_answer(c->l, c->labeller, assignment_of(c),
                                json_string_value(json_object_get(c->body, "id")),
                                json_object_get(c->body, "body"),
                                json_number_value(json_object_get(c->body, "seconds"))));
}

static int post_draft(LabelCall *c) {
    const json_t *body = json_object_get(c->body, "body");
    if (!json_is_object(body)) return error_set(ERR_DATA, "\"body\" is missing");
    return done(c, label_draft(c->l, c->labeller, assignment_of(c), body));
}

static int post_skip(LabelCall *c) {
    const char *reason = json_string_value(json_object_get(c->body, "reason"));
    return done(c, label_skip(c->l, c->labeller, assignment_of(c), reason ? reason : ""));
}

static int post_undo(LabelCall *c) { return done(c, label_undo(c->l, c->labeller)); }

static int get_report(LabelCall *c, bool page) {
    if (!c->admin) {
        http_error(c->r, 403, "the report is for administrators: rhetor-label token NAME --admin");
        return 0;
    }
    json_auto_t *report = NULL;
    TRY(label_report(c->l, &report));
    if (page) {
        label_report_page(report, &c->r->body);
        c->r->type = "text/html; charset=utf-8";
    } else
        http_json(c->r, 200, json_incref(report));
    return 0;
}
static int get_report_json(LabelCall *c) { return get_report(c, false); }
static int get_report_page(LabelCall *c) { return get_report(c, true); }

static const struct {
    const char *method, *path;
    int (*run)(LabelCall *c);
} calls[] = {{"GET", "/api/task", get_task},     {"POST", "/api/answer", post_answer},
             {"POST", "/api/draft", post_draft}, {"POST", "/api/skip", post_skip},
             {"POST", "/api/undo", post_undo},   {"GET", "/api/report", get_report_json},
             {"GET", "/report", get_report_page}};
enum { CALLS = sizeof calls / sizeof *calls };

static bool reply_to_call(Label *l, const HttpRequest *q, HttpReply *r) {
    int i = 0;
    while (i < CALLS && (strcmp(q->path, calls[i].path) != 0)) i++;
    if (i == CALLS) return false;
    if (strcmp(q->method, calls[i].method) != 0) {
        http_error(r, 405, "%s is a %s", q->path, calls[i].method);
        return true;
    }
    LabelCall c = {.l = l, .r = r};
    if (!visitor_may(&(Visitors){.l = l}, q, &c.labeller, &c.admin)) {
        http_error(r, 401, "who is this? Enter with the token of a labeller");
        return true;
    }
    json_auto_t *body = *q->method == 'P' ? http_body(q, r, DEPTH_MAX) : NULL;
    if (*q->method == 'P' && !body) return true;
    c.body = body;
    const int rc = calls[i].run(&c);
    if (rc < 0) reply_error(r, rc);
    return true;
}

void label_service(void *label, const HttpRequest *q, HttpReply *r) {
    Label *l = label;
    const Visitors v = {.l = l};
    int64_t labeller;
    bool admin;
    const bool get = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0;
    if (visitor_enters(&v, q, r) || reply_to_call(l, q, r)) return;
    if (!get)
        http_error(r, 405, "%s %s is nothing here", q->method, q->path);
    else if (strcmp(q->path, "/") == 0)
        pages_reply(visitor_may(&v, q, &labeller, &admin) ? "/label.html" : "/login.html", r);
    else if (!pages_reply(q->path, r))
        http_error(r, 404, "%s is nothing here", q->path);
}
