/* files.c: rhetor-label import and export. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/load.h"
#include "core/kernel.h"
#include "data/record_writer.h"
#include "rlhf/score.h"
#include "serve/http/label_form.h"
#include "tools/label/commands.h"

/* --- import: which items are worth most --------------------------------------------------------- */

/* The mean over pairs of 4 p (1 - p), p being the models' mean probability that the first of the
 * pair is better: near 1 where scores are close or the models disagree. */
static int uncertainty(const Loaded *m, int n, const json_t *prompt, const json_t *completions,
                       double *out) {
    const int k = (int)json_array_size(completions);
    AUTOFREE float *r = xmalloc((size_t)(n * LABEL_COMPLETIONS + 1) * sizeof *r);
    double sum = 0;
    for (int i = 0; i < n; i++) TRY(score_completions(&m[i], prompt, completions, r + i * k));
    for (int b = 1; b < k; b++)
        for (int a = 0; a < b; a++) {
            double p = 0;
            for (int i = 0; i < n; i++)
                p += 1 / (1 + exp((double)(r[i * k + b] - r[i * k + a]))) / n;
            sum += 4 * p * (1 - p);
        }
    *out = n ? sum / (k * (k - 1) / 2.0) : 0;
    return 0;
}

/* --- import ----------------------------------------------------------------------------------- */

static int strings(const json_t *list) {
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) if (!json_is_string(v)) return error_set(
        ERR_DATA, "\"completions\" holds %s, expected texts", json_kind(v));
    return 0;
}

static int add_record(Label *l, const Args *a, const Loaded *m, json_t *record) {
    json_t *prompt = json_object_get(record, "prompt"),
           *list = json_object_get(record, "completions");
    json_t *ranks = a->gold ? json_object_get(record, "ranks") : NULL;
    double priority = 0;
    if (!json_is_string(prompt) && !json_is_array(prompt))
        return error_set(ERR_DATA, "\"prompt\" is %s, expected a text or messages",
                         prompt ? json_kind(prompt) : "missing");
    if (list && !json_is_array(list))
        return error_set(ERR_DATA, "\"completions\" is %s, expected a list", json_kind(list));
    if (a->gold && !ranks)
        return error_set(ERR_DATA, "--gold needs \"ranks\" in each record: the known ranking");
    TRY(strings(list));
    json_auto_t *none = json_array(), *rest = json_copy(record);
    json_object_del(rest, "prompt");
    json_object_del(rest, "completions");
    const size_t k = json_array_size(list);
    if (a->reward.n && k >= 2 && k <= LABEL_COMPLETIONS)
        TRY(uncertainty(m, a->reward.n, prompt, list, &priority));
    return label_add(l, list ? "rank" : "write", prompt, list ? list : none, rest, ranks, priority);
}

static int add_file(Label *l, const Args *a, const Loaded *m, const char *path, int64_t *added,
                    int64_t *known) {
    JsonRecords *records;
    json_t *record;
    int rc;
    TRY(json_records_open(&records, path));
    while ((rc = json_records_next(records, &record)) > 0) {
        rc = json_is_object(record)
                 ? add_record(l, a, m, record)
                 : error_set(ERR_DATA, "%s, expected an object", json_kind(record));
        json_decref(record);
        if (rc < 0) {
            error_wrap(rc, "%s:%" PRId64, path, json_records_line(records));
            break;
        }
        *(rc ? added : known) += 1;
    }
    json_records_close(&records);
    return rc;
}

/* All files or none: one transaction. */
static int add_files(Label *l, const Args *a, const Loaded *m) {
    int64_t added = 0, known = 0;
    int rc = (int)sql_run(l->db, "BEGIN IMMEDIATE", "");
    for (int i = 0; i < a->file.n && rc >= 0; i++)
        rc = add_file(l, a, m, a->file.v[i], &added, &known);
    const int64_t done = sql_run(l->db, rc < 0 ? "ROLLBACK" : "COMMIT", "");
    if (rc >= 0 && done < 0) rc = (int)done;
    if (rc >= 0)
        log_info("%s: %" PRId64 " item%s added, %" PRId64 " there already; %" PRId64
                 " labeller%s an item",
                 a->db, added, added == 1 ? "" : "s", known, l->overlap,
                 l->overlap == 1 ? "" : "s");
    return rc;
}

int label_import(Args *a) {
    Label *l;
    const LabelSettings s = {a->form, a->seed, a->overlap, a->gold_every, a->repeat_every};
    AUTOFREE Loaded *m = xcalloc((size_t)a->reward.n + 1, sizeof *m);
    int loaded = 0, rc = 0;
    if (a->reward.n) core_init();
    for (; loaded < a->reward.n && rc >= 0; loaded += rc >= 0)
        rc = load_model(&m[loaded], a->reward.v[loaded], "--reward", LOAD_REWARD);
    if (rc >= 0 && (rc = label_open(&l, a->db, &s)) >= 0) {
        rc = add_files(l, a, m);
        label_close(&l);
    }
    for (int i = 0; i < loaded; i++) load_free(&m[i]);
    return rc;
}

/* --- export ----------------------------------------------------------------------------------- */

/* The item's own fields, the prompt and what belongs to this kind. */
static json_t *record_of(const LabelAnswer *a, bool demos) {
    json_t *r = json_deep_copy(a->record), *prompt = json_object_get(a->body, "prompt");
    json_object_del(r, "ranks");
    json_object_set(r, "prompt", demos && prompt ? prompt : a->prompt);
    if (!demos) json_object_set(r, "completions", a->completions);
    return r;
}

static json_t *one_answer(const LabelAnswer *a, bool demos) {
    static const char *const fields[] = {"completion", "quality", "flags", "note", "both_bad"};
    json_t *r = record_of(a, demos), *rank = json_object_get(a->body, "rank");
    if (!demos) json_object_set(r, "ranks", rank);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        json_t *v = json_object_get(a->body, fields[i]);
        if (v) json_object_set(r, fields[i], v);
    }
    json_object_set_new(r, "labeller", json_string(a->name));
    json_object_set_new(r, "seconds", json_real(a->seconds));
    json_object_set_new(r, "at", json_string(a->at));
    return r;
}

/* An item's rankings so far. */
typedef struct Consensus {
    int64_t item;
    json_t *record, *labellers;
    double sum[LABEL_COMPLETIONS];
    int n, k;
} Consensus;

static void put_consensus(Consensus *c, RecordWriter *w) {
    if (c->n) {
        json_t *ranks = json_array();
        for (int i = 0; i < c->k; i++) {
            int64_t rank = 1; /* one more than the number of different better means */
            for (int j = 0; j < c->k; j++) {
                bool better = c->sum[j] < c->sum[i];
                for (int m = 0; m < j; m++) better = better && c->sum[m] != c->sum[j];
                rank += better;
            }
            json_array_append_new(ranks, json_integer(rank));
        }
        json_object_set_new(c->record, "ranks", ranks);
        json_object_set(c->record, "labellers", c->labellers);
        record_writer_put(w, c->record);
        json_decref(c->record);
        json_decref(c->labellers);
    }
    *c = (Consensus){0};
}

static void add_to_consensus(Consensus *c, const LabelAnswer *a, RecordWriter *w) {
    const json_t *rank = json_object_get(a->body, "rank");
    if (c->item != a->item) put_consensus(c, w);
    if (!c->n)
        *c = (Consensus){.item = a->item,
                         .record = record_of(a, false),
                         .labellers = json_array(),
                         .k = (int)json_array_size(a->completions)};
    for (int i = 0; i < c->k; i++)
        c->sum[i] += (double)json_integer_value(json_array_get(rank, (size_t)i));
    json_array_append_new(c->labellers, json_string(a->name));
    c->n++;
}

/* Without quality control and second passes. */
static int write_answers(Label *l, const Args *a, RecordWriter *w, int64_t *n) {
    AUTOSTMT *cursor = NULL;
    LabelAnswer answer;
    Consensus c = {0};
    const bool all = strcmp(a->who, "all") == 0, consensus = strcmp(a->who, "consensus") == 0;
    int rc;
    TRY(label_answers(l, &cursor));
    while ((rc = label_answers_next(cursor, &answer)) > 0) {
        const bool demo = strcmp(answer.task, "write") == 0;
        const bool theirs = all || consensus || strcmp(answer.name, a->who) == 0;
        if (demo == a->demos && theirs && answer.pass == 0 && !answer.gold &&
            (demo || json_object_get(answer.body, "rank"))) {
            *n += 1;
            if (consensus && !demo)
                add_to_consensus(&c, &answer, w);
            else {
                json_auto_t *record = one_answer(&answer, demo);
                record_writer_put(w, record);
            }
        }
        label_answers_drop(&answer);
    }
    put_consensus(&c, w);
    return rc;
}

int label_export(Args *a) {
    Label *l;
    RecordWriter w;
    int64_t n = 0;
    TRY(label_open(&l, a->db, NULL));
    int rc = 0;
    if (strcmp(a->who, "all") != 0 && strcmp(a->who, "consensus") != 0 && !label_by_name(l, a->who))
        rc = error_set(ERR_USAGE, "--who %s: no such labeller; all, consensus or a name", a->who);
    const int64_t lack = a->complete ? label_unfinished(l) : 0;
    if (rc >= 0 && lack > 0)
        rc = error_set(ERR_REQUEUE,
                       "%" PRId64 " item%s of %s still lack%s answers: rhetor-label serve %s", lack,
                       TEXT_S(lack), a->db, lack == 1 ? "s" : "", a->db);
    if (rc >= 0) rc = record_writer_open(&w, a->out);
    if (rc >= 0) rc = record_writer_close(&w, write_answers(l, a, &w, &n));
    label_close(&l);
    if (rc >= 0) log_info("%" PRId64 " answer%s", n, n == 1 ? "" : "s");
    return rc;
}
