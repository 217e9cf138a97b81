/* chat_service.c: see chat_service.h. */
#include "serve/http/chat_service.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/rng.h"
#include "eval/stats.h"
#include "serve/http/label_form.h"
#include "serve/http/pages.h"

enum { DEPTH = 12, MODELS = 32, BOOTSTRAPS = 1000 };

/* --- rankings ------------------------------------------------------------------------------------ */

static int vote(ChatService *s, int64_t labeller, const json_t *body) {
    json_t *prompt = json_object_get(body, "messages"), *one;
    const json_t *answers = json_object_get(body, "answers");
    json_auto_t *ranks = NULL, *models = json_array(), *texts = json_array();
    json_auto_t *record = json_pack("{s:O}", "models", models);
    size_t i;
    if (!json_is_array(prompt))
        return error_set(ERR_DATA, "\"messages\" must be a list with a message at least");
    json_array_foreach(answers, i, one) {
        json_t *model = json_object_get(one, "model"), *text = json_object_get(one, "text");
        if (!json_is_string(model) || !json_is_string(text))
            return error_set(ERR_DATA, "answer %zu needs a \"model\" and a \"text\"", i + 1);
        json_array_append(models, model);
        json_array_append(texts, text);
    }
    TRY(label_form_ranks(&ranks, body, (int)i));
    json_auto_t *answer = json_pack("{s:O, s:b}", "rank", ranks, "both_bad",
                                    json_is_true(json_object_get(body, "both_bad")));
    return label_ranked(s->visitors.l, labeller, prompt, texts, record, answer);
}

/* One comparison: models by number, and the first one's share of the win. */
typedef struct Duel {
    int a, b;
    double win;
} Duel;

typedef struct ArenaTable {
    char *name[MODELS];
    int n;
    Duel *duel;
    int64_t duels, cap;
} ArenaTable;

static int model_number(ArenaTable *t, const char *name) {
    int i = 0;
    while (i < t->n && strcmp(t->name[i], name) != 0) i++;
    if (i == t->n && t->n < MODELS) t->name[t->n++] = xstrdup(name);
    return i < MODELS ? i : -1;
}

/* Answers i and j of a ranking. */
static void add_duel(ArenaTable *t, const json_t *models, const json_t *rank, size_t i, size_t j) {
    const char *a = json_string_value(json_array_get(models, i));
    const char *b = json_string_value(json_array_get(models, j));
    const json_int_t ra = json_integer_value(json_array_get(rank, i));
    const json_int_t rb = json_integer_value(json_array_get(rank, j));
    if (!a || !b || strcmp(a, b) == 0) return;
    const int m = model_number(t, a), n = model_number(t, b);
    if (m < 0 || n < 0) return;
    XGROW(t->duel, t->duels, t->cap);
    t->duel[t->duels++] = (Duel){m, n, ra < rb ? 1 : ra > rb ? 0 : 0.5};
}

static int read_duels(ArenaTable *t, Label *l) {
    AUTOSTMT *cursor = NULL;
    LabelAnswer x;
    int rc;
    TRY(label_answers(l, &cursor));
    while ((rc = label_answers_next(cursor, &x)) > 0) {
        const json_t *models = json_object_get(x.record, "models"),
                     *rank = json_object_get(x.body, "rank");
        for (size_t i = 0; i < json_array_size(models); i++)
            for (size_t j = i + 1; j < json_array_size(models); j++)
                add_duel(t, models, rank, i, j);
        label_answers_drop(&x);
    }
    return rc;
}

static bool strengths(const ArenaTable *t, const int64_t *pick, double *strength) {
    double wins[MODELS * MODELS] = {0};
    for (int64_t i = 0; i < t->duels; i++) {
        const Duel *d = &t->duel[pick ? pick[i] : i];
        wins[d->a * t->n + d->b] += d->win;
        wins[d->b * t->n + d->a] += 1 - d->win;
    }
    return stats_bradley_terry(wins, t->n, strength);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *arena_table(const ArenaTable *t) {
    AUTOFREE double *drawn = xmalloc(sizeof *drawn * BOOTSTRAPS * MODELS);
    AUTOFREE int64_t *pick = xmalloc(sizeof *pick * (size_t)(t->duels + 1));
    double all[MODELS], one[MODELS];
    int64_t good = 0;
    const bool finite = t->n > 1 && strengths(t, NULL, all);
    for (int b = 0; b < BOOTSTRAPS && finite; b++) {
        const RngKey key = {.seed = 1, .purpose = RNG_NOISE, .step = (uint32_t)b};
        for (int64_t i = 0; i < t->duels; i++)
            pick[i] = rng_below(&key, (uint64_t)i, 0, 0, t->duels);
        if (!strengths(t, pick, one)) continue;
        for (int m = 0; m < t->n; m++) drawn[m * BOOTSTRAPS + good] = one[m];
        good++;
    }
    json_t *models = json_array();
    for (int m = 0; m < t->n; m++) {
        double *d = drawn + m * BOOTSTRAPS;
        int64_t wins = 0, ties = 0, losses = 0;
        qsort(d, (size_t)good, sizeof *d, by_value);
        for (int64_t i = 0; i < t->duels; i++) {
            const Duel *x = &t->duel[i];
            if (x->a != m && x->b != m) continue;
            const double mine = x->a == m ? x->win : 1 - x->win;
            wins += mine > 0.5, ties += mine == 0.5, losses += mine < 0.5;
        }
        json_array_append_new(
            models,
            json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I}", "model", t->name[m], "strength",
                      real_or_null(finite ? all[m] : (double)NAN), "low",
                      real_or_null(good ? d[good / 40] : (double)NAN), "high",
                      real_or_null(good ? d[good - 1 - good / 40] : (double)NAN), "wins",
                      (json_int_t)wins, "ties", (json_int_t)ties, "losses", (json_int_t)losses));
    }
    return json_pack("{s:o, s:I}", "models", models, "comparisons", (json_int_t)t->duels);
}

int chat_service_arena(Label *l, json_t **out) {
    ArenaTable t = {0};
    const int rc = read_duels(&t, l);
    if (rc >= 0) *out = arena_table(&t);
    for (int i = 0; i < t.n; i++) free(t.name[i]);
    free(t.duel);
    return rc < 0 ? rc : 0;
}

/* --- the handler ----------------------------------------------------------------------------------- */

static void api(ChatService *s, int64_t labeller, const HttpRequest *q, HttpReply *r) {
    const bool post = strcmp(q->method, "POST") == 0;
    json_auto_t *body = NULL, *arena = NULL;
    int rc = 0;
    if (!post && strcmp(q->path, "/api/me") == 0) {
        AUTOFREE char *name =
            labeller ? sql_text(s->visitors.l->db, "SELECT name FROM labeller WHERE id = ?", "i",
                                labeller)
                     : NULL;
        http_json(r, 200,
                  json_pack("{s:b, s:s}", "votes", labeller != 0, "labeller", name ? name : ""));
    } else if (!labeller)
        http_error(r, 404, "comparisons need a labelling database: rhetor-serve --labels DB");
    else if (!post && strcmp(q->path, "/api/arena") == 0) {
        rc = chat_service_arena(s->visitors.l, &arena);
        if (rc >= 0) http_json(r, 200, json_incref(arena));
    } else if (post && strcmp(q->path, "/api/vote") == 0) {
        body = http_body(q, r, DEPTH);
        if (!body) return;
        rc = vote(s, labeller, body);
        if (rc >= 0) http_json(r, 200, json_pack("{s:b}", "ok", 1));
    } else
        http_error(r, 404, "%s %s is nothing here", q->method, q->path);
    if (rc < 0) http_error(r, rc == ERR_DATA ? 422 : 500, "%s", error_message());
}

void chat_service(void *service, const HttpRequest *q, HttpReply *r) {
    ChatService *s = service;
    int64_t labeller;
    bool admin;
    const bool get = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0;
    if (visitor_enters(&s->visitors, q, r)) return;
    const bool may = visitor_may(&s->visitors, q, &labeller, &admin);
    if (get && strcmp(q->path, "/") == 0)
        pages_reply(may ? "/chat.html" : "/login.html", r);
    else if (get && pages_reply(q->path, r))
        return;
    else if (!may && strcmp(q->path, "/health") != 0)
        http_error(r, 401, "who is this? \"Authorization: Bearer TOKEN\", or enter by the page");
    else if (strncmp(q->path, "/api/", 5) == 0)
        api(s, labeller, q, r);
    else if (!openai_reply(&s->api, q, r))
        http_error(r, 404, "%s %s is nothing here", q->method, q->path);
}
