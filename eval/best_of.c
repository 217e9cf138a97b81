/* best_of.c: see best_of.h. */
#include "eval/best_of.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/world/gold.h"
#include "eval/prompts.h"
#include "eval/stats.h"
#include "rlhf/score.h"

/* The kept samples: K of each prompt. */
typedef struct Kept {
    json_t **record; /* [n] */
    int64_t n, K;
    double *gold;              /* [n K] */
    double **score;            /* a reward model each, [n K] */
    char (*family)[GOLD_WORD]; /* [n] */
} Kept;

static void kept_free(Kept *k, int models) {
    for (int64_t i = 0; i < k->n; i++) json_decref(k->record[i]);
    for (int m = 0; k->score && m < models; m++) free(k->score[m]);
    free(k->record);
    free(k->gold);
    free(k->score);
    free(k->family);
    *k = (Kept){0};
}

/* --- reading ---------------------------------------------------------------------------------- */
static int add_record(Kept *k, json_t *record, const char *where) {
    const json_t *texts = json_object_get(record, "completions");
    const int64_t K = (int64_t)json_array_size(texts), i = k->n;
    Gold g;
    if (K < 1 || (i > 0 && K != k->K))
        return error_set(ERR_DATA, "%s: %" PRId64 " completions, expected %s", where, K,
                         i > 0 ? "as many as in the first record"
                               : "those of rhetor-generate --n K");
    TRY(gold_read(&g, json_object_get(record, "gold"), where));
    k->K = K;
    k->record = xrealloc(k->record, (size_t)(i + 1) * sizeof *k->record);
    k->gold = xrealloc(k->gold, (size_t)((i + 1) * K) * sizeof *k->gold);
    k->family = xrealloc(k->family, (size_t)(i + 1) * sizeof *k->family);
    memcpy(k->family[i], g.family, sizeof g.family);
    for (int64_t j = 0; j < K; j++) {
        const json_t *text = json_array_get(texts, (size_t)j);
        if (!json_is_string(text))
            return error_set(ERR_DATA, "%s: completion %" PRId64 " is no text", where, j + 1);
        k->gold[i * K + j] = gold_score(&g, json_string_value(text), NULL);
    }
    k->record[k->n++] = json_incref(record);
    return 0;
}

static int read_kept(Kept *k, const BestOfOptions *o) {
    JsonRecords *f;
    json_t *record;
    TRY(json_records_open(&f, o->samples));
    int rc = 0;
    while ((o->max_prompts == 0 || k->n < o->max_prompts) &&
           (rc = json_records_next(f, &record)) > 0) {
        char where[512];
        snprintf(where, sizeof where, "%s:%" PRId64, o->samples, json_records_line(f));
        rc = add_record(k, record, where);
        json_decref(record);
        if (rc < 0) break;
    }
    json_records_close(&f);
    if (rc >= 0 && k->n == 0) rc = error_set(ERR_DATA, "%s: no records", o->samples);
    return rc < 0 ? rc : 0;
}

/* --- scores ----------------------------------------------------------------------------------- */
/* The K samples of one prompt, each with the prompt before it. */
static int score_prompt(const Loaded *m, const Kept *k, int64_t i, const IdList *prompt,
                        const BestOfOptions *o, double *out) {
    const json_t *texts = json_object_get(k->record[i], "completions"),
                 *stopped = json_object_get(k->record[i], "stopped");
    AUTOFREE Sequence *q = xcalloc((size_t)k->K, sizeof *q);
    AUTOFREE IdList *ids = xcalloc((size_t)k->K, sizeof *ids);
    AUTOFREE unsigned char *ended = xcalloc((size_t)k->K, 1);
    AUTOFREE float *r = xcalloc((size_t)k->K, sizeof *r);
    int rc = 0;
    for (int64_t j = 0; j < k->K && rc >= 0; j++) {
        for (int64_t t = 0; t < prompt->n; t++) ids_push(&ids[j], prompt->v[t]);
        rc = template_completion(m->tmpl, m->tokenizer,
                                 json_string_value(json_array_get(texts, (size_t)j)), &ids[j]);
        /* a sample's text can have more tokens than the sample; then the prompt is cut */
        const int64_t over = ids[j].n - m->gpt->cfg.context, cut = over > 0 ? over : 0;
        if (rc >= 0 && cut >= prompt->n)
            rc = error_set(ERR_DATA, "%s: record %" PRId64 ": longer than the context", o->samples,
                           i + 1);
        q[j] = (Sequence){.tokens = ids[j].v + cut, .n = ids[j].n - cut};
        ended[j] = !json_is_false(json_array_get(stopped, (size_t)j));
    }
    if (rc >= 0) score_samples(m->gpt, q, ended, k->K, o->micro_tokens, o->no_stop_score, r);
    for (int64_t j = 0; j < k->K; j++) {
        out[j] = (double)r[j];
        ids_free(&ids[j]);
    }
    return rc;
}

static int score_all(Kept *k, int which, const BestOfOptions *o) {
    Loaded m;
    PromptFile p = {0};
    TRY(load_model(&m, o->path[which], o->name[which], LOAD_REWARD));
    int rc = prompts_load(&p, o->samples, &m, false, m.gpt->cfg.context - 1, k->n, NULL);
    if (rc >= 0 && p.n != k->n)
        rc = error_set(ERR_DATA, "%s: %" PRId64 " prompts are longer than the context of %s",
                       o->samples, p.skipped, o->path[which]);
    k->score[which] = xcalloc((size_t)(k->n * k->K), sizeof **k->score);
    for (int64_t i = 0; i < k->n && rc >= 0; i++)
        rc = score_prompt(&m, k, i, &p.ids[i], o, k->score[which] + i * k->K);
    prompts_free(&p);
    load_free(&m);
    return rc;
}

/* --- what comes out --------------------------------------------------------------------------- */
static double se_of(const double *x, int64_t n) { return stats_sd(x, n) / sqrt((double)n); }

static void add_number(json_t *row, const char *key, double v) {
    if (isfinite(v)) json_object_set_new(row, key, json_real(v));
}

static json_t *row_of(const Kept *k, const char *name, const double *score, int64_t n) {
    AUTOFREE double *gold = xcalloc((size_t)k->n, sizeof *gold),
                    *proxy = xcalloc((size_t)k->n, sizeof *proxy);
    for (int64_t i = 0; i < k->n; i++) {
        const double *s = score + i * k->K;
        gold[i] = stats_best_of(s, k->gold + i * k->K, k->K, n);
        proxy[i] = stats_best_of(s, s, k->K, n);
    }
    json_t *row =
        json_pack("{s:s, s:I, s:f}", "reward", name, "n", (json_int_t)n, "kl", stats_best_of_kl(n));
    add_number(row, "proxy", stats_mean(proxy, k->n));
    add_number(row, "proxy_se", se_of(proxy, k->n));
    add_number(row, "gold", stats_mean(gold, k->n));
    add_number(row, "gold_se", se_of(gold, k->n));
    return row;
}

/* Of pairs of a prompt's samples with different gold scores, those of a family (NULL: all). */
static json_t *accuracy_of(const Kept *k, const char *name, const double *score,
                           const char *family) {
    double pairs = 0, right = 0;
    for (int64_t i = 0; i < k->n; i++) {
        if (family && strcmp(family, k->family[i]) != 0) continue;
        const double *s = score + i * k->K, *g = k->gold + i * k->K;
        for (int64_t a = 0; a < k->K; a++)
            for (int64_t b = 0; b < a; b++) {
                const double difference = (g[a] - g[b]) * (s[a] - s[b]);
                if (!(fabs(g[a] - g[b]) > 1e-9)) continue;
                pairs++;
                right += difference > 0 ? 1 : difference < 0 ? 0 : 0.5;
            }
    }
    json_t *row = json_pack("{s:s, s:s, s:f}", "reward", name, "family", family ? family : "all",
                            "pairs", pairs);
    add_number(row, "accuracy", right / pairs);
    return row;
}

static json_t *result_of(const Kept *k, const BestOfOptions *o) {
    json_t *rows = json_array(), *accuracy = json_array();
    for (int m = 0; m < o->n; m++) {
        const double *s = k->score[m];
        for (int64_t n = 1; n <= k->K; n = n < k->K && 2 * n > k->K ? k->K : 2 * n)
            json_array_append_new(rows, row_of(k, o->name[m], s, n));
        json_array_append_new(accuracy, accuracy_of(k, o->name[m], s, NULL));
        for (int64_t i = 0; i < k->n; i++) {
            int64_t first = 0;
            while (strcmp(k->family[first], k->family[i]) != 0) first++;
            if (first == i)
                json_array_append_new(accuracy, accuracy_of(k, o->name[m], s, k->family[i]));
        }
    }
    return json_pack("{s:I, s:I, s:o, s:o}", "prompts", (json_int_t)k->n, "samples",
                     (json_int_t)k->K, "rows", rows, "accuracy", accuracy);
}

static json_t *numbers(const double *x, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_real(x[i]));
    return list;
}

static int write_answers(const Kept *k, const BestOfOptions *o) {
    Text t = {0};
    for (int64_t i = 0; i < k->n; i++) {
        json_t *scores = json_object();
        json_auto_t *r = json_copy(k->record[i]);
        for (int m = 0; m < o->n; m++)
            json_object_set_new(scores, o->name[m], numbers(k->score[m] + i * k->K, k->K));
        json_object_set_new(r, "gold_scores", numbers(k->gold + i * k->K, k->K));
        json_object_set_new(r, "scores", scores);
        char *line = json_dumps(r, JSON_COMPACT | JSON_REAL_PRECISION(9));
        text_put(&t, "%s\n", line);
        free(line);
    }
    AUTOFREE char *text = text_take(&t);
    return file_write_durable(o->answers, text, strlen(text));
}

int best_of(json_t **out, const BestOfOptions *o) {
    Kept k = {0};
    int rc = read_kept(&k, o);
    k.score = xcalloc((size_t)o->n + 1, sizeof *k.score);
    for (int m = 0; m < o->n && rc >= 0; m++) rc = score_all(&k, m, o);
    if (rc >= 0 && o->answers) rc = write_answers(&k, o);
    if (rc >= 0) *out = result_of(&k, o);
    kept_free(&k, o->n);
    return rc < 0 ? rc : 0;
}
