/* eval_judge.c: rhetor-eval judge: what share of texts a naive Bayes classifier takes for positive. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "eval/bayes.h"
#include "tools/eval/eval.h"

/* The texts of a file: of each record its "text", or each of its "completions". labels: 0, 1, or -1
 * where there is none. */
typedef struct JudgedTexts {
    char **v;
    int *label;
    int64_t n, cap, room;
} JudgedTexts;

static void add_text(JudgedTexts *t, const json_t *v, int label) {
    if (!json_is_string(v)) return;
    XGROW(t->label, t->n, t->room);
    XGROW(t->v, t->n, t->cap);
    t->label[t->n] = label;
    t->v[t->n++] = xstrdup(json_string_value(v));
}

static void free_texts(JudgedTexts *t) {
    for (int64_t i = 0; i < t->n; i++) free(t->v[i]);
    free(t->v);
    free(t->label);
}

static int read_texts(JudgedTexts *t, const char *path, bool labelled) {
    JsonRecords *r;
    json_t *j;
    int rc;
    TRY(json_records_open(&r, path));
    while ((rc = json_records_next(r, &j)) > 0) {
        const json_t *label = json_object_get(j, "label"),
                     *list = json_object_get(j, "completions");
        const bool known = json_is_integer(label) && json_integer_value(label) >> 1 == 0;
        const int64_t before = t->n;
        add_text(t, json_object_get(j, "text"), known ? (int)json_integer_value(label) : -1);
        for (size_t i = 0; i < json_array_size(list); i++) add_text(t, json_array_get(list, i), -1);
        if (t->n == before || (labelled && !known))
            rc = error_set(ERR_DATA, "%s:%" PRId64 ": expected {\"text\", \"label\": 0 or 1}%s",
                           path, json_records_line(r), labelled ? "" : " or {\"completions\"}");
        json_decref(j);
        if (rc < 0) break;
    }
    json_records_close(&r);
    if (rc >= 0 && t->n == 0) rc = error_set(ERR_DATA, "%s: holds no texts", path);
    return rc;
}

/* With `shuffle` the control: the labels of others. */
static int learn_file(Bayes *b, const Args *a) {
    JudgedTexts t = {0};
    int rc = read_texts(&t, a->train, true);
    const RngKey key = {.seed = (uint64_t)a->o.seed, .purpose = RNG_SHUFFLE};
    for (int64_t i = t.n; a->shuffle && i-- > 1;) {
        const int64_t k = rng_below(&key, (uint64_t)i, 0, 0, i + 1);
        const int other = t.label[k];
        t.label[k] = t.label[i];
        t.label[i] = other;
    }
    for (int64_t i = 0; i < t.n && rc >= 0; i++) bayes_learn(b, t.v[i], t.label[i] == 1);
    free_texts(&t);
    return rc;
}

static int judge_file(const Bayes *b, const char *path) {
    JudgedTexts t = {0};
    int rc = read_texts(&t, path, false);
    if (rc >= 0) {
        int64_t positive = 0, right = 0, labelled = 0;
        for (int64_t i = 0; i < t.n; i++) {
            const bool is = bayes_score(b, t.v[i]) > 0;
            positive += is;
            labelled += t.label[i] >= 0;
            right += t.label[i] == (int)is;
        }
        const double n = (double)t.n, share = (double)positive / n;
        json_t *j = json_pack("{s:s, s:I, s:o, s:o, s:o}", "file", path, "texts", (json_int_t)t.n,
                              "positive", eval_decimals(share, 4), "se",
                              eval_decimals(sqrt(share * (1 - share) / n), 4), "distinct_2",
                              eval_decimals(bayes_distinct((const char *const *)t.v, t.n), 4));
        if (labelled == t.n)
            json_object_set_new(j, "accuracy", eval_decimals((double)right / n, 4));
        eval_print(j);
    }
    free_texts(&t);
    return rc;
}

int eval_judge(const Args *a) {
    if (!a->train) return error_set(ERR_USAGE, "--train FILE: labelled texts to learn from");
    Bayes *b = bayes_new();
    int rc = learn_file(b, a);
    for (int i = 0; i < a->file.n && rc >= 0; i++) rc = judge_file(b, a->file.v[i]);
    bayes_free(&b);
    return rc < 0 ? rc : 0;
}
