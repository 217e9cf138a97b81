/* rhetor-eval: how good is a model? loss, logprobs, reward, rank, win, compare,
 * pick. Each subcommand has its own --help. */
#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/openmp.h"
#include "core/blas.h"
#include "data/gold.h"
#include "data/pack.h"
#include "data/texts.h"
#include "rlhf/compare.h"
#include "rlhf/pick.h"
#include "rlhf/ranking.h"
#include "rlhf/score.h"
#include "train/evaluate.h"

enum { MAX_LIST = 64, MICRO_TOKENS = 8192 };

typedef struct Args {
    const char *model, *reward, *prompts, *base, *json, *expect, *out;
    const char *file[MAX_LIST], *name[MAX_LIST], *path[MAX_LIST], *heldout[MAX_LIST];
    int nfile, nmodel, nheldout;
    int64_t max, max_new, best_of, seed, samples;
    double temperature, no_stop_score, expect_se, expect_accuracy;
    bool gold;
} Args;

enum {
    OPT_REWARD = 1000,
    OPT_PROMPTS,
    OPT_BASE,
    OPT_JSON,
    OPT_EXPECT,
    OPT_EXPECT_SE,
    OPT_HELDOUT,
    OPT_MAX,
    OPT_MAX_NEW,
    OPT_BEST_OF,
    OPT_SEED,
    OPT_SAMPLES,
    OPT_TEMPERATURE,
    OPT_NO_STOP_SCORE,
    OPT_GOLD,
    OPT_EXPECT_ACCURACY,
    OPT_OUT
};

#define MODEL_OPTION \
    { "model", 'm', "PATH", 0, "run folder or checkpoint", 0 }
#define NO_STOP_OPTION                                                           \
    {                                                                            \
        "no-stop-score", OPT_NO_STOP_SCORE, "X", 0,                              \
            "reward of an answer that was cut off, as ppo.no_stop_score (-1)", 0 \
    }
#define MAX_OPTION \
    { "max-records", OPT_MAX, "N", 0, "use only the first N records", 0 }
static const struct argp_option model_options[] = {MODEL_OPTION, MAX_OPTION, {0}};
static const struct argp_option loss_options[] = {
    MODEL_OPTION,
    {"max-records", OPT_MAX, "N", 0,
     "measure only N windows of the context's length, spread evenly", 0},
    {0}};
static const struct argp_option rank_options[] = {
    MODEL_OPTION,
    {"expect-accuracy", OPT_EXPECT_ACCURACY, "X", 0, "fail (exit 70) below this accuracy", 0},
    MAX_OPTION,
    {0}};
static const struct argp_option win_options[] = {
    {"gold", OPT_GOLD, 0, 0, "judge by the gold program of the embedded world", 0},
    {"reward", OPT_REWARD, "PATH", 0, "judge by this reward model", 0},
    NO_STOP_OPTION,
    MAX_OPTION,
    {0}};
static const struct argp_option compare_options[] = {
    {"model", 'm', "NAME=PATH", 0, "a model; give one for each row", 0},
    {"base", OPT_BASE, "NAME", 0, "the model that differences, win rates and KL refer to (sft)", 0},
    {"reward", OPT_REWARD, "PATH", 0, "reward model", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0,
     "held-out prompts; with \"gold\" they are scored by the gold program", 0},
    {"heldout", OPT_HELDOUT, "CORPUS", 0, "held-out corpus for the language-model loss", 0},
    {"best-of", OPT_BEST_OF, "N", 0,
     "a row for the best of N samples of the base by the reward model", 0},
    {"max-new", OPT_MAX_NEW, "N", 0, "longest answer in tokens (64)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "(1)", 0},
    NO_STOP_OPTION,
    {"seed", OPT_SEED, "N", 0, "(1)", 0},
    {"samples", OPT_SAMPLES, "N", 0, "show the answers to N prompts (4)", 0},
    {"json", OPT_JSON, "FILE", 0, "also write the table as JSON", 0},
    {"expect", OPT_EXPECT, "A>B>C", 0,
     "fail (exit 70) unless each model's score is above the next one's", 0},
    {"expect-se", OPT_EXPECT_SE, "X", 0, "... by more than X paired standard errors (5)", 0},
    MAX_OPTION,
    {0}};

static const struct argp_option pick_options[] = {
    {"model", 'm', "RUN", 0, "run folder of rhetor-sft", 0},
    {"reward", OPT_REWARD, "PATH", 0, "reward model", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0, "held-out prompts, not those of the final evaluation", 0},
    {"out", OPT_OUT, "DIR", 0,
     "folder that will hold the picked checkpoint, for from.model and --model, and picked.json "
     "(without: only the table)",
     0},
    {"max-new", OPT_MAX_NEW, "N", 0, "longest answer in tokens (64)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "(1)", 0},
    NO_STOP_OPTION,
    {"seed", OPT_SEED, "N", 0, "(1)", 0},
    MAX_OPTION,
    {0}};

static int64_t whole(const char *arg, struct argp_state *state) {
    char *end;
    long long v = strtoll(arg, &end, 10);
    if (*end || v < 0) argp_error(state, "%s: expected a whole number from 0", arg);
    return v;
}

static double number(const char *arg, struct argp_state *state) {
    char *end;
    double v = strtod(arg, &end);
    if (*end || !isfinite(v)) argp_error(state, "%s: expected a number", arg);
    return v;
}

static void add_model(Args *a, char *arg, struct argp_state *state) {
    a->model = arg;
    char *eq = strchr(arg, '=');
    if (!eq) return;
    if (a->nmodel == MAX_LIST) argp_error(state, "at most %d models", MAX_LIST);
    *eq = '\0';
    a->name[a->nmodel] = arg;
    a->path[a->nmodel++] = eq + 1;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    switch (key) {
    case 'm': add_model(a, arg, state); break;
    case OPT_REWARD: a->reward = arg; break;
    case OPT_PROMPTS: a->prompts = arg; break;
    case OPT_BASE: a->base = arg; break;
    case OPT_JSON: a->json = arg; break;
    case OPT_EXPECT: a->expect = arg; break;
    case OPT_EXPECT_SE: a->expect_se = number(arg, state); break;
    case OPT_HELDOUT:
        if (a->nheldout == MAX_LIST) argp_error(state, "at most %d corpora", MAX_LIST);
        a->heldout[a->nheldout++] = arg;
        break;
    case OPT_MAX: a->max = whole(arg, state); break;
    case OPT_MAX_NEW: a->max_new = whole(arg, state); break;
    case OPT_BEST_OF: a->best_of = whole(arg, state); break;
    case OPT_SEED: a->seed = whole(arg, state); break;
    case OPT_SAMPLES: a->samples = whole(arg, state); break;
    case OPT_TEMPERATURE: a->temperature = number(arg, state); break;
    case OPT_OUT: a->out = arg; break;
    case OPT_NO_STOP_SCORE: a->no_stop_score = number(arg, state); break;
    case OPT_GOLD: a->gold = true; break;
    case OPT_EXPECT_ACCURACY: a->expect_accuracy = number(arg, state); break;
    case ARGP_KEY_ARG:
        if (a->nfile == MAX_LIST) argp_error(state, "at most %d files", MAX_LIST);
        a->file[a->nfile++] = arg;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- results
 * ------------------------------------------------------------------------------------------------
 */

/* A number with so many decimals; null where there is nothing to measure. */
static json_t *decimals(double v, int n) {
    return isfinite(v) ? json_real(round(v * pow(10, n)) / pow(10, n)) : json_null();
}

/* One line of JSON; takes over the reference. */
static void print_result(json_t *j) {
    json_dumpf(j, stdout, JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(j);
}

/* --- loss
 * ------------------------------------------------------------------------------------------------
 */

/* The documents of a text or JSON file as `rhetor-data encode` makes them: end-of-text ends each
 * and begins none. */
static int text_loss(const Loaded *m, const char *path, int64_t windows, EvalLoss *e) {
    const TextOptions o = {0};
    const int32_t eos = tokenizer_eos(m->tokenizer);
    Texts *texts;
    TRY(texts_open(&texts, path, &o));
    IdList ids = {0};
    int64_t *start = xcalloc(1, sizeof *start), n = 0, bytes = 0;
    const char *text;
    size_t len;
    int rc;
    while ((rc = texts_next(texts, &text, &len)) > 0) {
        rc = tokenizer_encode(m->tokenizer, text, len, false, &ids);
        if (rc < 0) {
            texts_wrap(texts, rc, texts_line(texts));
            break;
        }
        if (eos >= 0) ids_push(&ids, eos);
        start = xrealloc(start, (size_t)(++n + 1) * sizeof *start);
        start[n] = ids.n;
        bytes += (int64_t)len;
    }
    texts_close(&texts);
    if (rc >= 0) {
        rc = evaluate_documents(m->gpt, ids.v, start, n, bytes, windows, MICRO_TOKENS, e);
        if (rc < 0) error_wrap(rc, "%s", path);
    }
    free(start);
    ids_free(&ids);
    return rc;
}

static int corpus_loss(const Loaded *m, const char *path, int64_t windows, Comm *comm,
                       EvalLoss *e) {
    StrList files = {(char *[]){(char *)(uintptr_t)path}, 1};
    Corpus *c;
    int rc = corpus_open(&c, &files, tokenizer_hash(m->tokenizer));
    if (rc == 0) rc = evaluate_corpus(m->gpt, c, windows, MICRO_TOKENS, comm, e);
    corpus_close(&c);
    return rc;
}

static int cmd_loss(const Args *a) {
    Loaded m;
    Comm *comm;
    TRY(comm_open_alone(&comm));
    TRY(load_model(&m, a->model, "--model", 0));
    int rc = 0;
    for (int i = 0; i < a->nfile && rc == 0; i++) {
        const char *dot = strrchr(a->file[i], '.');
        EvalLoss e = {0};
        rc = dot && strcmp(dot, ".h5") == 0 ? corpus_loss(&m, a->file[i], a->max, comm, &e)
                                            : text_loss(&m, a->file[i], a->max, &e);
        if (rc == 0)
            print_result(json_pack("{s:s, s:I, s:o, s:o, s:o}", "file", a->file[i], "tokens",
                                   (json_int_t)e.tokens, "nats_per_token", decimals(e.nll, 6),
                                   "perplexity", decimals(exp(e.nll), 4), "bits_per_byte",
                                   decimals(e.bits_per_byte, 6)));
    }
    load_free(&m);
    comm_close(&comm);
    return rc;
}

/* --- logprobs
 * --------------------------------------------------------------------------------------------- */

static int record_ids(const Loaded *m, const json_t *rec, IdList *ids) {
    const json_t *text = json_object_get(rec, "text"), *tokens = json_object_get(rec, "tokens"), *v;
    size_t i;
    ids->n = 0;
    if (json_is_string(text))
        TRY(tokenizer_encode(m->tokenizer, json_string_value(text), json_string_length(text), false,
                             ids));
    else if (json_is_array(tokens)) {
        json_array_foreach(tokens, i, v) {
            if (!json_is_integer(v) || json_integer_value(v) < 0 ||
                json_integer_value(v) >= m->gpt->cfg.vocab)
                return error_set(ERR_DATA, "\"tokens\"[%zu]: expected an id in 0..%" PRId64, i,
                                 m->gpt->cfg.vocab - 1);
            ids_push(ids, (int32_t)json_integer_value(v));
        }
    } else
        return error_set(ERR_DATA, "expected {\"text\": \"...\"} or {\"tokens\": [...]}");
    if (ids->n > m->gpt->cfg.context)
        return error_set(ERR_DATA, "%" PRId64 " tokens are more than the context of %" PRId64,
                         ids->n, m->gpt->cfg.context);
    return 0;
}

static int cmd_logprobs(const Args *a) {
    Loaded m;
    JsonRecords *file;
    json_t *rec;
    IdList ids = {0};
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Pack pack = {0};
    int rc = 0;
    TRY(load_model(&m, a->model, "--model", 0));
    TRY(json_records_open(&file, a->nfile ? a->file[0] : "-"));
    real *logp = xmalloc((size_t)m.gpt->cfg.context * sizeof *logp);
    while ((rc = json_records_next(file, &rec)) > 0) {
        rc = record_ids(&m, rec, &ids);
        json_decref(rec);
        if (rc < 0) {
            error_wrap(rc, "%s:%" PRId64, json_records_path(file), json_records_line(file));
            break;
        }
        if (ids.n > 0) {
            pack_clear(&pack);
            pack_add(&pack, ids.v, ids.n, NULL, 1.0f, 0);
            Batch b = pack_batch(&pack);
            gpt_score(m.gpt, tape, &b, NULL, 1.0, logp, NULL);
        }
        printf("{\"tokens\":[");
        for (int64_t i = 0; i < ids.n; i++) printf("%s%d", i ? "," : "", ids.v[i]);
        printf("],\"logprobs\":[");
        for (int64_t i = 0; i + 1 < ids.n; i++) printf("%s%.9g", i ? "," : "", (double)logp[i]);
        printf("]}\n");
    }
    free(logp);
    json_records_close(&file);
    ids_free(&ids);
    pack_free(&pack);
    tape_close(&tape);
    arena_free(&arena);
    load_free(&m);
    return rc < 0 ? rc : 0;
}

/* --- reward, rank
 * ---------------------------------------------------------------------------------------------- */

static int load_records(Dataset *d, DatasetKind kind, const Args *a, const Loaded *m) {
    StrList files = {(char **)(uintptr_t)a->file, a->nfile};
    DatasetOptions o = {.tokenizer = m->tokenizer,
                        .tmpl = m->tmpl,
                        .context = m->gpt->cfg.context,
                        .on_long = ON_LONG_STOP,
                        .on_bad = ON_BAD_STOP,
                        .max_records = a->max,
                        .field_prompt = "prompt",
                        .field_completion = "completion",
                        .field_chosen = "chosen",
                        .field_rejected = "rejected",
                        .field_messages = "messages"};
    if (kind == DATASET_RANKED) o.on_long = ON_LONG_TRUNCATE_LEFT;
    return dataset_load(d, kind, &files, &o);
}

static int cmd_reward(const Args *a) {
    Loaded m;
    Dataset d = {0};
    TRY(load_model(&m, a->model, "--model", LOAD_HEAD));
    int rc = load_records(&d, DATASET_DEMOS, a, &m);
    if (rc == 0) {
        float *r = xmalloc((size_t)(d.n + 1) * sizeof *r);
        score_sequences(m.gpt, d.seq, d.n, MICRO_TOKENS, r);
        for (int64_t i = 0; i < d.n; i++) printf("{\"score\": %.9g}\n", (double)r[i]);
        free(r);
    }
    dataset_free(&d);
    load_free(&m);
    return rc;
}

static int cmd_rank(const Args *a) {
    Loaded m;
    Dataset d = {0};
    TRY(load_model(&m, a->model, "--model", LOAD_HEAD));
    int rc = load_records(&d, DATASET_RANKED, a, &m);
    if (rc == 0) {
        const int64_t nseq = d.first[d.n];
        float *r = xmalloc((size_t)(nseq + 1) * sizeof *r);
        score_sequences(m.gpt, d.seq, nseq, MICRO_TOKENS, r);
        RankStats s = {0};
        for (int64_t i = 0; i < d.n; i++)
            rank_stats_add(&s, r + d.first[i], d.rank + d.first[i], d.first[i + 1] - d.first[i]);
        free(r);
        print_result(json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "pairs", (json_int_t)s.pairs,
                               "accuracy", decimals(rank_accuracy(&s), 4), "loss",
                               decimals(rank_loss(&s), 4), "margin", decimals(rank_margin(&s), 4),
                               "reward_mean", decimals(rank_mean(&s), 4), "reward_std",
                               decimals(rank_std(&s), 4)));
        printf("calibration: |difference|   pairs   accuracy   predicted\n");
        for (int b = 0; b < RANK_BINS; b++) {
            if (s.bin_pairs[b] == 0) continue;
            double lo = rank_bin_low(b), hi = b + 1 < RANK_BINS ? rank_bin_low(b + 1) : lo + 2;
            printf("          %5.2f .. %-5.2f %9.0f %10.3f %11.3f\n", lo, hi, s.bin_pairs[b],
                   s.bin_correct[b] / s.bin_pairs[b], 1 / (1 + exp(-(lo + hi) / 2)));
        }
        if (a->expect_accuracy > 0 && !(rank_accuracy(&s) >= a->expect_accuracy))
            rc = error_set(ERR_INTERNAL, "expected an accuracy of at least %g, found %.4f",
                           a->expect_accuracy, rank_accuracy(&s));
    }
    dataset_free(&d);
    load_free(&m);
    return rc;
}

/* --- win
 * ---------------------------------------------------------------------------------------------------------
 */

/* Score of a record's first completion by the gold program. */
static int gold_of(const json_t *rec, const char *path, int64_t line, double *score) {
    char where[512];
    snprintf(where, sizeof where, "%s:%" PRId64, path, line);
    const json_t *text = json_array_get(json_object_get(rec, "completions"), 0);
    if (!text) text = json_object_get(rec, "completion");
    if (!json_is_string(text))
        return error_set(
            ERR_DATA,
            "%s: expected \"completions\" (as rhetor-generate writes it) or \"completion\"", where);
    Gold g;
    TRY(gold_read(&g, json_object_get(rec, "gold"), where));
    *score = gold_score(&g, json_string_value(text), NULL);
    return 0;
}

/* What a sample file answers and how well. */
typedef struct Samples {
    const char *path;
    int64_t n;
    char **prompt; /* [n] */
    double *score; /* [n] */
} Samples;

static void samples_free(Samples *s) {
    for (int64_t i = 0; i < s->n; i++) free(s->prompt[i]);
    free(s->prompt);
    free(s->score);
    *s = (Samples){0};
}

/* What a record asks: its "prompt", or all of it but the answers. */
static char *prompt_of(const json_t *record) {
    static const char *const answers[] = {"completions", "completion", "stopped", "scores",
                                          "ranks"};
    json_t *ask = json_incref(json_object_get(record, "prompt"));
    if (!ask) {
        ask = json_copy((json_t *)(uintptr_t)record);
        for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
            json_object_del(ask, answers[i]);
    }
    char *text = json_dumps(ask, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(ask);
    return text;
}

static void add_sample(Samples *s, const json_t *record, double score) {
    s->prompt = xrealloc(s->prompt, (size_t)(s->n + 1) * sizeof *s->prompt);
    s->score = xrealloc(s->score, (size_t)(s->n + 1) * sizeof *s->score);
    s->prompt[s->n] = prompt_of(record);
    s->score[s->n++] = score;
}

static int gold_scores(Samples *s, int64_t max) {
    JsonRecords *f;
    json_t *rec;
    int rc = 0;
    TRY(json_records_open(&f, s->path));
    while ((max == 0 || s->n < max) && (rc = json_records_next(f, &rec)) > 0) {
        double score;
        rc = gold_of(rec, s->path, json_records_line(f), &score);
        if (rc >= 0) add_sample(s, rec, score);
        json_decref(rec);
        if (rc < 0) break;
    }
    json_records_close(&f);
    return rc < 0 ? rc : 0;
}

/* Scores of {"prompt","completion"} by a reward model; rhetor-generate's "completions" are first
 * turned into records of one completion. */
static int reward_scores(Samples *s, const Loaded *rm, const Args *a) {
    const char *path = s->path;
    PromptFile p;
    TRY(prompts_load(&p, path, rm, false, rm->gpt->cfg.context - 1, a->max, NULL));
    int rc = 0;
    Sequence *q = xcalloc((size_t)p.n + 1, sizeof *q);
    unsigned char *ended = xcalloc((size_t)p.n + 1, 1);
    float *r = xmalloc((size_t)(p.n + 1) * sizeof *r);
    for (int64_t i = 0; i < p.n && rc >= 0; i++) {
        const int64_t prompt = p.ids[i].n;
        const json_t *text = json_array_get(json_object_get(p.record[i], "completions"), 0);
        const json_t *stopped = json_object_get(p.record[i], "stopped");
        if (json_is_array(stopped)) stopped = json_array_get(stopped, 0);
        ended[i] = !json_is_false(stopped);
        if (!text) text = json_object_get(p.record[i], "completion");
        if (!json_is_string(text))
            rc = error_set(ERR_DATA,
                           "%s: record %" PRId64 ": expected \"completions\" or \"completion\"",
                           path, i + 1);
        else
            rc = template_completion(rm->tmpl, rm->tokenizer, json_string_value(text), &p.ids[i]);
        /* A sample's text can have more tokens than the sample; then the prompt is cut, as rank
         * does. */
        const int64_t over = p.ids[i].n - rm->gpt->cfg.context, cut = over > 0 ? over : 0;
        if (rc >= 0 && cut >= prompt)
            rc =
                error_set(ERR_DATA, "%s: record %" PRId64 ": longer than the context", path, i + 1);
        q[i] = (Sequence){.tokens = p.ids[i].v + cut, .n = p.ids[i].n - cut};
    }
    if (rc >= 0) {
        score_samples(rm->gpt, q, ended, p.n, MICRO_TOKENS, a->no_stop_score, r);
        for (int64_t i = 0; i < p.n; i++) add_sample(s, p.record[i], (double)r[i]);
    }
    free(q);
    free(ended);
    free(r);
    prompts_free(&p);
    return rc < 0 ? rc : 0;
}

/* Do both answer the same prompts, in the same order? */
static int check_pairs(const Samples *x, const Samples *y) {
    if (x->n != y->n)
        return error_set(ERR_DATA,
                         "%s has %" PRId64 " records, %s has %" PRId64
                         "; both must answer the same prompts",
                         x->path, x->n, y->path, y->n);
    if (x->n == 0) return error_set(ERR_DATA, "%s and %s hold no records", x->path, y->path);
    for (int64_t i = 0; i < x->n; i++)
        if (strcmp(x->prompt[i], y->prompt[i]) != 0)
            return error_set(ERR_DATA,
                             "record %" PRId64 " of %s answers %.80s, of %s %.80s; both must "
                             "answer the same prompts in the same order",
                             i + 1, x->path, x->prompt[i], y->path, y->prompt[i]);
    return 0;
}

static void print_win(const double *x, const double *y, int64_t n) {
    double win = 0, diff = 0, var = 0;
    for (int64_t i = 0; i < n; i++) {
        win += (x[i] > y[i] ? 1 : x[i] < y[i] ? 0 : 0.5) / (double)n;
        diff += (x[i] - y[i]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) var += pow(x[i] - y[i] - diff, 2) / (double)(n - 1);
    print_result(json_pack("{s:I, s:o, s:o, s:o}", "prompts", (json_int_t)n, "win_rate",
                           decimals(win, 4), "difference", decimals(diff, 4), "difference_se",
                           decimals(sqrt(var / (double)n), 4)));
}

static int cmd_win(const Args *a) {
    Loaded rm = {0};
    if (a->nfile != 2 || a->gold == (a->reward != NULL))
        return error_set(ERR_USAGE, "expected two sample files and either --gold or --reward PATH");
    if (a->reward) TRY(load_model(&rm, a->reward, "--reward", LOAD_HEAD));
    Samples s[2] = {{.path = a->file[0]}, {.path = a->file[1]}};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = a->gold ? gold_scores(&s[i], a->max) : reward_scores(&s[i], &rm, a);
    if (rc == 0) rc = check_pairs(&s[0], &s[1]);
    if (rc == 0) print_win(s[0].score, s[1].score, s[0].n);
    samples_free(&s[0]);
    samples_free(&s[1]);
    load_free(&rm);
    return rc;
}

/* --- compare
 * ---------------------------------------------------------------------------------------------------------
 */

/* "ppo>sft>base": each above the next. */
static int check_expectation(const Comparison *c, const Args *a) {
    char *chain = xstrdup(a->expect), *save = NULL, *prev = NULL;
    int rc = 0;
    for (char *w = strtok_r(chain, ">", &save); w; prev = w, w = strtok_r(NULL, ">", &save)) {
        double mean, se;
        if (!prev) continue;
        compare_difference(c, prev, w, &mean, &se);
        printf("expected: %s above %s by more than %g standard errors: %+.3f +- %.3f, %.1f: %s\n",
               prev, w, a->expect_se, mean, se, mean / se,
               mean > a->expect_se * se ? "holds" : "does NOT hold");
        if (!(mean > a->expect_se * se))
            rc = error_set(ERR_INTERNAL, "--expect %s does not hold", a->expect);
    }
    free(chain);
    return rc;
}

/* Before hours of sampling: does the chain name rows of the table? */
static int check_chain(const Args *a) {
    char *chain = xstrdup(a->expect), *save = NULL, best[64];
    int rc = 0, n = 0;
    snprintf(best, sizeof best, "best of %" PRId64, a->best_of);
    for (char *w = strtok_r(chain, ">", &save); w && rc == 0; w = strtok_r(NULL, ">", &save)) {
        bool known = a->best_of > 0 && strcmp(w, best) == 0;
        for (int i = 0; i < a->nmodel && !known; i++) known = strcmp(w, a->name[i]) == 0;
        if (!known)
            rc = error_set(ERR_USAGE,
                           "--expect %s: \"%s\" is none of the models given with "
                           "--model NAME=PATH",
                           a->expect, w);
        n++;
    }
    free(chain);
    if (rc == 0 && n < 2)
        rc = error_set(ERR_USAGE, "--expect %s: expected two or more names, A>B", a->expect);
    return rc;
}

static int cmd_compare(const Args *a) {
    if (!a->prompts || a->nmodel == 0)
        return error_set(ERR_USAGE, "expected --model NAME=PATH (for each row) and --prompts FILE");
    if (a->best_of > 0 && !a->reward)
        return error_set(ERR_USAGE, "--best-of %" PRId64 " needs --reward PATH, which chooses",
                         a->best_of);
    if (a->expect) TRY(check_chain(a));
    CompareOptions o = {.name = a->name,
                        .path = a->path,
                        .n = a->nmodel,
                        .base = a->base,
                        .reward = a->reward,
                        .prompts = a->prompts,
                        .heldout = a->heldout,
                        .nheldout = a->nheldout,
                        .max_prompts = a->max,
                        .max_new = a->max_new,
                        .best_of = a->best_of,
                        .temperature = a->temperature,
                        .no_stop_score = a->no_stop_score,
                        .seed = (uint64_t)a->seed,
                        .samples = a->samples,
                        .micro_tokens = MICRO_TOKENS};
    Comparison c;
    TRY(compare(&c, &o));
    compare_print(&c, &o, stdout);
    int rc = 0;
    if (a->json) {
        json_t *j = compare_json(&c);
        rc = json_write_file(j, a->json);
        json_decref(j);
    }
    if (rc == 0 && a->expect) {
        printf("\n");
        rc = check_expectation(&c, a);
    }
    compare_free(&c);
    return rc;
}

static int cmd_pick(const Args *a) {
    if (!a->reward || !a->prompts)
        return error_set(ERR_USAGE, "expected --reward PATH and --prompts FILE");
    const PickOptions o = {.run = a->model,
                           .reward = a->reward,
                           .prompts = a->prompts,
                           .out = a->out,
                           .max_prompts = a->max,
                           .max_new = a->max_new,
                           .temperature = a->temperature,
                           .no_stop_score = a->no_stop_score,
                           .seed = (uint64_t)a->seed,
                           .micro_tokens = MICRO_TOKENS};
    return pick(&o, stdout);
}

/* --- main
 * ---------------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    int (*run)(const Args *);
    bool model, file; /* needed */
    struct argp argp;
} commands[] = {
    {"loss",
     cmd_loss,
     true,
     true,
     {loss_options, parse, "FILE...",
      "Nats a token and bits a byte on corpora (.h5), texts (a document a file) or .jsonl "
      "({\"text\"}: a document each), also .gz and .zst.",
      0, 0, 0}},
    {"logprobs",
     cmd_logprobs,
     true,
     false,
     {model_options, parse, "[FILE.jsonl]",
      "For each {\"text\"} or {\"tokens\":[...]} line (file or standard input): "
      "{\"tokens\":[...],\"logprobs\":[...]}; "
      "logprobs[i] is that of tokens[i+1] given the ones before.",
      0, 0, 0}},
    {"reward",
     cmd_reward,
     true,
     true,
     {model_options, parse, "FILE.jsonl",
      "A reward model's score of each {\"prompt\",\"completion\"} line.", 0, 0, 0}},
    {"rank",
     cmd_rank,
     true,
     true,
     {rank_options, parse, "FILE.jsonl",
      "Accuracy, margin and calibration of a reward model on rankings.", 0, 0, 0}},
    {"win",
     cmd_win,
     false,
     true,
     {win_options, parse, "A.jsonl B.jsonl",
      "How often A's sample beats B's for the same prompt (ties half); files as rhetor-generate "
      "--out writes them.",
      0, 0, 0}},
    {"compare",
     cmd_compare,
     false,
     false,
     {compare_options, parse, NULL, "A table of models that answer the same held-out prompts.", 0,
      0, 0}},
    {"pick",
     cmd_pick,
     true,
     false,
     {pick_options, parse, NULL,
      "Which checkpoint of an SFT run PPO starts from: the latest that the reward model scores "
      "within one standard error of the best.",
      0, 0, 0}},
};
enum { NCOMMAND = sizeof commands / sizeof *commands };

static int usage(FILE *f) {
    fprintf(f, "Usage: rhetor-eval COMMAND [options]; each command has --help\n");
    for (int i = 0; i < NCOMMAND; i++)
        fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].argp.doc);
    return f == stdout ? 0 : error_exit_code(ERR_USAGE);
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    if (argc < 2) return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) return usage(stdout);
    if (strcmp(argv[1], "--version") == 0) return puts("rhetor-eval " RHETOR_VERSION) < 0;
    for (int i = 0; i < NCOMMAND; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        Args a = {.base = "sft",
                  .max_new = 64,
                  .temperature = 1,
                  .no_stop_score = -1,
                  .seed = 1,
                  .samples = 4,
                  .expect_se = 5};
        char name[64];
        snprintf(name, sizeof name, "rhetor-eval %s", commands[i].name);
        argv[1] = name;
        argp_err_exit_status = error_exit_code(ERR_USAGE);
        argp_parse(&commands[i].argp, argc - 1, argv + 1, 0, NULL, &a);
        core_init();
        int rc = 0;
        if (commands[i].model && !a.model)
            rc = error_set(ERR_USAGE, "which model? --model runs/NAME/STAGE");
        else if (commands[i].file && a.nfile == 0)
            rc = error_set(ERR_USAGE, "which file? see %s --help", name);
        else
            rc = commands[i].run(&a);
        if (rc < 0) fprintf(stderr, "%s: %s\n", name, error_message());
        return error_exit_code(rc);
    }
    fprintf(stderr, "rhetor-eval: no command \"%s\"\n", argv[1]);
    return usage(stderr);
}
