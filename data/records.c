/* records.c: rank, score, split. See records.h. */
#include "data/records.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "data/record.h"
#include "data/record_writer.h"
#include "data/world/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- every record of a file ------------------------------------------------------------------- */

typedef int RecordFn(void *ctx, json_t *record, const char *where);

/* Calls fn for each record; `where` is "path:line". Errors of fn get that place before them. */
static int each_record(const char *path, RecordFn *fn, void *ctx) {
    JsonRecords *records;
    TRY(json_records_open(&records, path));
    json_t *record;
    int rc;
    while ((rc = json_records_next(records, &record)) > 0) {
        bool array = json_records_is_array(records);
        int64_t line = json_records_line(records);
        char *where = xasprintf(array ? "%s, item %lld" : "%s:%lld", path, (long long)line);
        rc = json_is_object(record) ? fn(ctx, record, where)
                                    : error_set(ERR_DATA, "%s: not a JSON object", where);
        free(where);
        json_decref(record);
        if (rc < 0) break;
    }
    json_records_close(&records);
    return rc;
}

/* --- rank ------------------------------------------------------------------------------------- */

typedef struct Ranking {
    RecordWriter out;
    GoldNoise noise;
    const Raters *raters; /* or NULL */
    Agreement agreement;
    RecordScorer scorer; /* score NULL: the gold reward */
} Ranking;

/* The record's rater, who is named in it, ranks the answers; all of them say how they would have.
 * parts, text: [k] */
static void rank_by_rater(Ranking *r, json_t *record, uint64_t id, const GoldParts *parts,
                          const json_t *list, const int *same, int k, int *rank) {
    const Raters *all = r->raters;
    const Rater *one = raters_of(all, r->noise.seed, id);
    AUTOFREE double *score = xmalloc((size_t)(all->n * k + 1) * sizeof *score);
    for (int i = 0; i < all->n; i++)
        for (int j = 0; j < k; j++)
            score[i * k + j] = rater_score(&all->v[i], &parts[j],
                                           json_string_value(json_array_get(list, (size_t)j)));
    rater_rank(one, score + (one - all->v) * k, same, k, r->noise.seed, id, rank);
    raters_agree(all, score, same, k, r->noise.seed, id, &r->agreement);
    json_object_set_new(record, "rater", json_string(one->name));
}

static int other_scores(Ranking *r, json_t *record, const char *where, int k, double *score) {
    int rc = r->scorer.score(r->scorer.ctx, record, k, score);
    for (int i = 0; i < k && rc >= 0; i++)
        if (!isfinite(score[i]))
            rc = error_set(ERR_DATA, "the score of completion %d is not finite", i + 1);
    return rc < 0 ? error_wrap(rc, "%s", where) : 0;
}

static int rank_record(void *ctx, json_t *record, const char *where) {
    Ranking *r = ctx;
    const json_t *list = json_object_get(record, "completions");
    int k = (int)json_array_size(list);
    if (k < 2)
        return error_set(ERR_DATA,
                         "%s: no \"completions\" with at least two answers; sample them "
                         "with rhetor-generate --n K",
                         where);
    Gold gold;
    if (!r->scorer.score) TRY(gold_read(&gold, json_object_get(record, "gold"), where));
    AUTOFREE GoldParts *parts = xmalloc((size_t)k * sizeof *parts);
    AUTOFREE double *score = xmalloc((size_t)k * sizeof *score);
    int *same = xmalloc((size_t)k * sizeof *same), *rank = xmalloc((size_t)k * sizeof *rank);
    int rc = 0;
    for (int i = 0; i < k && rc == 0; i++) {
        const char *text = json_string_value(json_array_get(list, (size_t)i));
        if (!text) {
            rc = error_set(ERR_DATA, "%s: completion %d is not a string", where, i + 1);
            break;
        }
        same[i] = i;
        for (int j = i - 1; j >= 0; j--)
            if (strcmp(text, json_string_value(json_array_get(list, (size_t)j))) == 0) same[i] = j;
        if (!r->scorer.score) score[i] = gold_score(&gold, text, &parts[i]);
    }
    if (rc == 0 && r->scorer.score) rc = other_scores(r, record, where, k, score);
    if (rc == 0) {
        char *prompt =
            json_dumps(json_object_get(record, "prompt"), JSON_ENCODE_ANY | JSON_SORT_KEYS);
        uint64_t id = prompt ? hash_text(prompt) : 0;
        free(prompt);
        if (r->raters)
            rank_by_rater(r, record, id, parts, list, same, k, rank);
        else
            gold_rank(score, same, k, r->noise, id, rank);
        json_t *scores = json_array(), *ranks = json_array();
        for (int i = 0; i < k; i++) {
            json_array_append_new(scores, json_real(score[i]));
            json_array_append_new(ranks, json_integer(rank[i]));
        }
        if (r->scorer.score == records_given) /* they are there, under their name */
            json_decref(scores);
        else
            json_object_set_new(record, "scores", scores);
        json_object_set_new(record, "ranks", ranks);
        record_writer_put(&r->out, record);
    }
    free(same);
    free(rank);
    return rc;
}

int records_rank(const char *in, const char *out, GoldNoise noise, const Raters *raters,
                 double *agreement) {
    Ranking r = {.noise = noise, .raters = raters};
    TRY(record_writer_open(&r.out, out));
    TRY(record_writer_close(&r.out, each_record(in, rank_record, &r)));
    if (agreement)
        *agreement = r.agreement.pairs > 0 ? r.agreement.alike / r.agreement.pairs : (double)NAN;
    return 0;
}

int records_rank_by(const char *in, const char *out, GoldNoise noise, RecordScorer s) {
    Ranking r = {.noise = noise, .scorer = s};
    TRY(record_writer_open(&r.out, out));
    return record_writer_close(&r.out, each_record(in, rank_record, &r));
}

/* --- best ------------------------------------------------------------------------------------- */

typedef struct Best {
    RecordWriter out;
    const char *by;
    double least;
    int64_t taken, all;
} Best;

/* The record's member of that name, or "NAME.SUB" of an object's. */
static const json_t *member(const json_t *record, const char *name) {
    const char *dot = strchr(name, '.');
    if (!dot) return json_object_get(record, name);
    AUTOFREE char *outer = strndup(name, (size_t)(dot - name));
    return json_object_get(json_object_get(record, outer), dot + 1);
}

int records_given(void *ctx, json_t *record, int k, double *score) {
    const json_t *number = member(record, ctx);
    if ((int)json_array_size(number) != k)
        return error_set(ERR_DATA, "\"%s\" has %zu numbers for %d completions", (const char *)ctx,
                         json_array_size(number), k);
    for (int i = 0; i < k; i++) {
        const json_t *x = json_array_get(number, (size_t)i);
        if (!json_is_number(x))
            return error_set(ERR_DATA, "\"%s\" of completion %d is no number", (const char *)ctx,
                             i + 1);
        score[i] = json_number_value(x);
    }
    return 0;
}

static int best_record(void *ctx, json_t *record, const char *where) {
    static const char *const beside[] = {"completions", "stopped", "scores", "gold_scores",
                                         "ranks"};
    Best *b = ctx;
    const json_t *list = json_object_get(record, "completions");
    const json_t *number = member(record, b->by), *ended = json_object_get(record, "stopped");
    const size_t k = json_array_size(list);
    size_t best = k;
    if (k == 0) return error_set(ERR_DATA, "%s: no \"completions\"", where);
    if (json_array_size(number) != k)
        return error_set(ERR_DATA,
                         "%s: \"%s\" has %zu numbers for %zu completions; rhetor-data rank and "
                         "rhetor-eval best-of --out write some",
                         where, b->by, json_array_size(number), k);
    for (size_t i = 0; i < k; i++) {
        const json_t *x = json_array_get(number, i);
        if (!json_is_number(x) || !json_is_string(json_array_get(list, i)))
            return error_set(ERR_DATA, "%s: completion %zu is no text, or its \"%s\" no number",
                             where, i + 1, b->by);
        if (json_is_false(json_array_get(ended, i)) || json_number_value(x) < b->least) continue;
        if (best == k || json_number_value(x) > json_number_value(json_array_get(number, best)))
            best = i;
    }
    b->all++;
    if (best == k) return 0;
    json_object_set(record, "completion", json_array_get(list, best));
    json_object_set(record, "score", json_array_get(number, best));
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) json_object_del(record, beside[i]);
    record_writer_put(&b->out, record);
    b->taken++;
    return 0;
}

int records_best(const char *const *in, int n, const char *by, double least, const char *out,
                 int64_t *taken, int64_t *all) {
    Best b = {.by = by, .least = least};
    int rc = 0;
    TRY(record_writer_open(&b.out, out));
    for (int i = 0; i < n && rc >= 0; i++) rc = each_record(in[i], best_record, &b);
    if (rc >= 0 && b.taken == 0)
        rc = error_set(ERR_DATA, "%s: none of %lld records has a finished answer of at least %g",
                       in[0], (long long)b.all, least);
    *taken = b.taken;
    *all = b.all;
    return record_writer_close(&b.out, rc);
}

/* --- score ------------------------------------------------------------------------------------ */

enum { PARTS = 5, FAMILIES = 64 };

typedef struct Means {
    char family[GOLD_WORD];
    int64_t n;
    double sum[PARTS], squares; /* squares: of the total */
} Means;

typedef struct Scoring {
    const char *field;
    Means all, family[FAMILIES];
    int nfamilies;
} Scoring;

static void add_score(Means *m, const GoldParts *p) {
    const double v[PARTS] = {p->helpful, p->honest, p->harmless, p->concise, p->total};
    for (int i = 0; i < PARTS; i++) m->sum[i] += v[i];
    m->squares += p->total * p->total;
    m->n++;
}

static int score_record(void *ctx, json_t *record, const char *where) {
    Scoring *s = ctx;
    Gold gold;
    TRY(gold_read(&gold, json_object_get(record, "gold"), where));
    int f = 0;
    while (f < s->nfamilies && strcmp(s->family[f].family, gold.family) != 0) f++;
    if (f == s->nfamilies && f < FAMILIES) {
        memcpy(s->family[f].family, gold.family, sizeof gold.family);
        s->nfamilies++;
    }
    const char *names[] = {"completions", "completion"};
    const json_t *v = NULL;
    if (s->field) v = json_object_get(record, s->field);
    for (int i = 0; i < 2 && !v && !s->field; i++) v = json_object_get(record, names[i]);
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        if (!text)
            return error_set(ERR_DATA, "%s: no text in \"%s\"", where,
                             s->field ? s->field : "completion");
        GoldParts p;
        gold_score(&gold, text, &p);
        add_score(&s->all, &p);
        if (f < FAMILIES) add_score(&s->family[f], &p);
    }
    return 0;
}

static void print_means(FILE *out, const char *name, const Means *m) {
    if (m->n == 0) return;
    double n = (double)m->n, mean = m->sum[PARTS - 1] / n;
    double variance = m->n > 1 ? (m->squares - n * mean * mean) / (n - 1) : 0;
    fprintf(out, "%-12s %7lld", name, (long long)m->n);
    for (int i = 0; i < PARTS; i++) fprintf(out, " %8.3f", m->sum[i] / n);
    fprintf(out, " +- %.3f\n", sqrt(variance > 0 ? variance / n : 0));
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const Means *)a)->family, ((const Means *)b)->family);
}

int records_score(const char *in, const char *field, FILE *out) {
    Scoring s = {.field = field};
    TRY(each_record(in, score_record, &s));
    if (s.all.n == 0) return error_set(ERR_DATA, "%s holds no records", in);
    fprintf(out, "%-12s %7s %8s %8s %8s %8s %8s\n", "", "n", "helpful", "honest", "harmless",
            "concise", "total");
    qsort(s.family, (size_t)s.nfamilies, sizeof *s.family, by_name);
    for (int i = 0; i < s.nfamilies; i++) print_means(out, s.family[i].family, &s.family[i]);
    print_means(out, "all", &s.all);
    return 0;
}

/* --- policies --------------------------------------------------------------------------------- */

typedef struct Asked {
    int64_t n, cap;
    Gold *gold;
    const char **prompt;
    json_t *records; /* that own the prompts */
} Asked;

static int add_asked(void *ctx, json_t *record, const char *where) {
    Asked *a = ctx;
    const char *prompt = policy_prompt(record);
    if (!prompt) return error_set(ERR_DATA, "%s: no \"prompt\"", where);
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 64;
        a->gold = xrealloc(a->gold, (size_t)a->cap * sizeof *a->gold);
        a->prompt = xrealloc(a->prompt, (size_t)a->cap * sizeof *a->prompt);
    }
    TRY(gold_read(&a->gold[a->n], json_object_get(record, "gold"), where));
    a->prompt[a->n++] = prompt;
    json_array_append(a->records, record);
    return 0;
}

/* Its mean, standard error, and the shares of what it does. */
static void print_policy(FILE *out, const char *name, const Asked *a, char *const *answer) {
    double sum = 0, squares = 0, verdicts[VERDICT_COUNT] = {0};
    const double n = (double)a->n;
    for (int64_t i = 0; i < a->n; i++) {
        GoldParts p;
        const double x = gold_score(&a->gold[i], answer[i], &p);
        sum += x;
        squares += x * x;
        verdicts[p.verdict] += 100 / n;
    }
    const double mean = sum / n, variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0;
    fprintf(out, "| %s | %.3f ± %.3f |", name, mean, sqrt(variance > 0 ? variance / n : 0));
    for (int v = 0; v < VERDICT_COUNT; v++)
        fprintf(out, verdicts[v] > 0 ? " %.0f |" : " |", verdicts[v]);
    fprintf(out, "\n");
}

int records_policies(const char *in, FILE *out) {
    Asked a = {.records = json_array()};
    int rc = each_record(in, add_asked, &a);
    if (rc >= 0 && a.n == 0) rc = error_set(ERR_DATA, "%s holds no records", in);
    AUTOFREE char **answer = xcalloc((size_t)a.n + 1, sizeof *answer);
    if (rc >= 0) {
        fprintf(out, "| policy | gold |");
        for (int v = 0; v < VERDICT_COUNT; v++) fprintf(out, " %s |", gold_verdict_names[v]);
        fprintf(out, "\n|---|---|");
        for (int v = 0; v < VERDICT_COUNT; v++) fprintf(out, "---|");
        fprintf(out, "\n");
        for (int64_t i = 0; i < a.n; i++) answer[i] = a.gold[i].ideal;
        print_policy(out, "ideal", &a, answer);
    }
    for (int p = 0; p < policy_count() && rc >= 0; p++) {
        policy_answer(p, a.gold, a.prompt, a.n, 1, answer);
        print_policy(out, policy_name(p), &a, answer);
        for (int64_t i = 0; i < a.n; i++) free(answer[i]);
    }
    json_decref(a.records);
    free(a.gold);
    free(a.prompt);
    return rc < 0 ? rc : 0;
}

/* --- split ------------------------------------------------------------------------------------ */

typedef struct Split {
    RecordWriter train, heldout;
    double share;
    const DatasetOptions *o;
    int64_t n[2];
} Split;

static uint64_t prompt_hash(const json_t *record, const DatasetOptions *o) {
    Record r;
    uint64_t h = 0;
    json_t *again = json_incref((json_t *)(uintptr_t)record);
    if (record_parse(&r, DATASET_PROMPTS, again, o) >= 0) {
        for (int i = 0; i < r.nprompt; i++) h = hash_combine(h, hash_text(r.prompt[i].content));
    } else {
        char *text = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
        h = hash_combine(h, hash_text(text));
        free(text);
    }
    record_free(&r);
    return h;
}

static int split_record(void *ctx, json_t *record, const char *where) {
    Split *s = ctx;
    bool held = (double)(prompt_hash(record, s->o) >> 11) * 0x1p-53 < s->share;
    record_writer_put(held ? &s->heldout : &s->train, record);
    s->n[held]++;
    return 0;
}

int records_split(const char *in, double heldout, const char *train_out, const char *heldout_out,
                  const DatasetOptions *o, int64_t *train, int64_t *held) {
    Split s = {.share = heldout, .o = o};
    TRY(record_writer_open(&s.train, train_out));
    int rc = record_writer_open(&s.heldout, heldout_out);
    if (rc >= 0) rc = each_record(in, split_record, &s);
    if (rc >= 0 && (s.n[0] == 0 || s.n[1] == 0))
        rc = error_set(ERR_DATA,
                       "%s: %lld record%s would go to %s and %lld to %s; one of them would "
                       "be empty, choose another share",
                       in, (long long)s.n[0], TEXT_S(s.n[0]), train_out, (long long)s.n[1],
                       heldout_out);
    rc = record_writer_close(&s.train, rc);
    rc = record_writer_close(&s.heldout, rc);
    *train = s.n[0];
    *held = s.n[1];
    return rc;
}
