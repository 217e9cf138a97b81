/* machine.c: what a rank can do, read from files or measured here.
 *
 * Measured is real work of the first stage's model, with random tokens: forward and backward of a
 * large and of a small micro-batch, which tell the cost of a FLOP from that of a micro-batch; the
 * update; a forward pass; decoding of many and of few sequences, which tell the cost of a pass
 * (its weights are read) from that of a token. The shortest of several rounds counts, the others
 * were disturbed. */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "base/json.h"
#include "core/batch.h"
#include "core/kernel.h"
#include "core/rng.h"
#include "model/decode.h"
#include "optim/optim.h"
#include "plan/forecast.h"
#include "train/run.h"

enum { ROUNDS_MIN = 3, ROUNDS_MAX = 12, NEW_TOKENS = 16 };
static const double unmeasurable = 1e15; /* a cost that was lost in the noise */

/* --- measuring -------------------------------------------------------------------------------- */

typedef struct MachineLab {
    const PlanStage *stage; /* PPO's, if there is one */
    Gpt *gpt;
    AdamW adam;
    Arena arena, scratch, scoring;
    Tape *tape, *inference;
    Batch large, small;
    real *out;
    int64_t few, many, prompt, made; /* decoding: sequences, their tokens */
    int32_t *tokens;
    int64_t *start;
} MachineLab;

static void fill(Batch *p, const GptConfig *g, int64_t sequences, int64_t length) {
    const RngKey key = {.seed = 1, .purpose = RNG_TEST};
    AUTOFREE int32_t *t = xmalloc((size_t)(length + 1) * sizeof *t);
    for (int64_t s = 0; s < sequences; s++) {
        for (int64_t i = 0; i <= length; i++)
            t[i] = (int32_t)rng_below(&key, (uint64_t)s, (uint32_t)i, 0, (uint32_t)g->vocab);
        batch_add_window(p, t, length, 1.0f / (float)(sequences * length), (uint64_t)s);
    }
}

static double train_seconds(MachineLab *l, const Batch *p) {
    const Batch b = *p;
    const double t = clock_seconds();
    gpt_loss(l->gpt, l->tape, &b, NULL, NULL);
    tape_backward(l->tape);
    tape_reset(l->tape);
    return clock_seconds() - t;
}

static double update_seconds(MachineLab *l) {
    ParamSet *ps = &l->gpt->params;
    const double t = clock_seconds();
    adamw_update(&l->adam, ps, 1e-6, grad_clip_scale(grad_norm(ps), 1));
    paramset_zero_grad(ps);
    return clock_seconds() - t;
}

static double forward_seconds(MachineLab *l) {
    const Batch b = l->large;
    const double t = clock_seconds();
    gpt_score(l->gpt, l->inference, &b, NULL, 1, l->out, l->out);
    return clock_seconds() - t;
}

static double decode_seconds(MachineLab *l, int64_t n) {
    const DecodeOptions o = {
        .temperature = 1, .top_p = 1, .max_new = l->made, .seed = 1, .scratch = &l->scratch};
    DecodeResult r;
    const double t = clock_seconds();
    int rc = decode(&r, l->gpt, l->tokens, l->start, n, NULL, &o);
    CHECK(rc >= 0, "%s", error_message());
    decode_free(&r);
    return clock_seconds() - t;
}

/* FLOPs of sampling, as in PlanWork. */
static double decode_flops(const MachineLab *l, int64_t n) {
    PlanWork w = {.stage = STAGE_PPO,
                  .model = l->gpt->cfg,
                  .items = (double)n,
                  .epochs = 1,
                  .minibatches = 1};
    double part[3];
    w.response = (double)l->made;
    w.length = (double)(l->prompt + l->made);
    plan_flops(&w, part);
    return part[0];
}

static int64_t clamp(int64_t n, int64_t lo, int64_t hi) { return n < lo ? lo : n > hi ? hi : n; }

static int open_lab(MachineLab *l, const PlanStages *s, double seconds) {
    const PlanStage *stage = &s->v[0], *ppo = NULL;
    for (int i = 0; i < s->n; i++)
        if (config_has_episodes(s->v[i].kind) && !ppo) ppo = &s->v[i];
    const PlanWork *w = &stage->work;
    GptConfig model = w->model;
    const GptConfig *g = &model;
    model.scalar_head = false; /* has no language model loss, and cannot be decoded */
    TRY(gpt_open(&l->gpt, g, true));
    gpt_init(l->gpt, 1, INIT_GPT2);
    l->gpt->recompute = false;
    adamw_init(&l->adam, &l->gpt->params, NULL, 0.9, 0.95, 1e-8, 0);
    l->tape = tape_open(&l->arena, true);
    l->inference = tape_open(&l->scoring, false);

    const int64_t T = clamp((int64_t)(w->length + 0.5), 1, g->context);
    fill(&l->small, g, 1, T);
    train_seconds(l, &l->small); /* warm */
    const double once = train_seconds(l, &l->small);
    int64_t most = clamp(w->micro_tokens / T, 1, (int64_t)ceil(w->items * w->sequences));
    most = clamp(most, 1, 1 + (int64_t)(seconds / 4 / once));
    if (most > 3) fill(&l->small, g, most / 4 - 1, T);
    fill(&l->large, g, most, T);
    l->out = xmalloc((size_t)l->large.n * sizeof *l->out);

    l->made = clamp(ppo ? ppo->work.longest : NEW_TOKENS, 2, NEW_TOKENS);
    l->prompt = ppo ? (int64_t)(ppo->work.length - ppo->work.response + 0.5) : g->context / 2;
    l->prompt = clamp(l->prompt, 1, g->context - l->made);
    l->many = 16 * omp_get_max_threads();
    if (ppo) l->many = clamp((int64_t)ppo->work.items, 1, l->many);
    l->few = l->many > 3 ? l->many / 4 : 1;
    l->tokens = xcalloc((size_t)(l->many * l->prompt), sizeof *l->tokens);
    l->start = xcalloc((size_t)l->many + 1, sizeof *l->start);
    for (int64_t i = 0; i <= l->many; i++) l->start[i] = i * l->prompt;
    return 0;
}

static void close_lab(MachineLab *l) {
    tape_close(&l->tape);
    tape_close(&l->inference);
    arena_free(&l->arena);
    arena_free(&l->scratch);
    arena_free(&l->scoring);
    batch_free(&l->large);
    batch_free(&l->small);
    if (l->gpt) adamw_free(&l->adam);
    gpt_close(&l->gpt);
    free(l->out);
    free(l->tokens);
    free(l->start);
}

/* t = fixed + amount / rate through two points; *fixed is 0 where the noise is larger. */
static double rate_of(double amount1, double t1, double amount2, double t2, double *fixed) {
    double rate = amount1 > amount2 && t1 > t2 ? (amount1 - amount2) / (t1 - t2) : 0;
    *fixed = rate > 0 ? t1 - amount1 / rate : 0;
    if (*fixed <= 0) *fixed = 0, rate = amount1 / t1;
    return rate;
}

static int measure(PlanRates *r, const PlanStages *s, double seconds) {
    MachineLab l = {0};
    int rc = open_lab(&l, s, seconds);
    double best[6] = {HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL};
    const double began = clock_seconds();
    for (int i = 0; rc >= 0 && i <= ROUNDS_MAX; i++) {
        const double t[6] = {train_seconds(&l, &l.large), train_seconds(&l, &l.small),
                             update_seconds(&l),          forward_seconds(&l),
                             decode_seconds(&l, l.many),  decode_seconds(&l, l.few)};
        for (int k = 0; k < 6 && i > 0; k++) best[k] = fmin(best[k], t[k]); /* 0 is the warm one */
        if (i >= ROUNDS_MIN && clock_seconds() - began > seconds) break;
    }
    if (rc >= 0) {
        const GptConfig *g = &l.gpt->cfg;
        const double weights = 4 * (double)l.gpt->params.count, T = (double)l.large.start[1];
        double fixed;
        r->threads = omp_get_max_threads();
        r->train =
            rate_of(gpt_train_flops(g, (double)l.large.n, (double)l.large.n, T), best[0],
                    gpt_train_flops(g, (double)l.small.n, (double)l.small.n, T), best[1], &fixed);
        r->micro = fixed > 0 ? weights / fixed : unmeasurable;
        r->update = 9 * weights / best[2];
        r->forward = gpt_train_flops(g, (double)l.large.n, (double)l.large.n, T) / 3 / best[3];
        /* every call packs the weights first */
        const double packing = 2 * weights / r->update;
        r->decode = rate_of(decode_flops(&l, l.many), best[4] - packing, decode_flops(&l, l.few),
                            best[5] - packing, &fixed);
        r->decode_read = fixed > 0 ? (double)l.made * weights / fixed : unmeasurable;
    }
    close_lab(&l);
    return rc;
}

int machine_measure(PlanMachine *m, const PlanStages *s, double seconds) {
    const int all = omp_get_max_threads();
    for (int k = 0; k < 2; k++) {
        if (k == 1 && all == 1) break;
        omp_set_num_threads(k == 0 ? all : 1);
        TRY(measure(&m->rates[m->nrates++], s, seconds));
    }
    omp_set_num_threads(all);
    free(m->origin);
    m->origin =
        xasprintf("measured here with the model of stage %s (%s)", s->v[0].name, kernel_text());
    return 0;
}

const PlanRates *machine_rates(const PlanMachine *m, int64_t threads) {
    const PlanRates *best = &m->rates[0];
    for (int i = 1; i < m->nrates; i++) {
        const PlanRates *r = &m->rates[i];
        const bool fits = r->threads <= threads, best_fits = best->threads <= threads;
        if (fits != best_fits ? fits
            : fits            ? r->threads > best->threads
                              : r->threads < best->threads)
            best = r;
    }
    return best;
}

/* --- files ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t offset;
} fields[] = {{"train_gflops", offsetof(PlanRates, train)},
              {"micro_gbs", offsetof(PlanRates, micro)},
              {"forward_gflops", offsetof(PlanRates, forward)},
              {"update_gbs", offsetof(PlanRates, update)},
              {"decode_gbs", offsetof(PlanRates, decode_read)},
              {"decode_gflops", offsetof(PlanRates, decode)}};
enum { FIELDS = sizeof fields / sizeof *fields };

static double *field_of(PlanRates *r, int i) { return (double *)((char *)r + fields[i].offset); }

static int positive(const json_t *j, const char *key, double *out) {
    TRY(json_get_f64(j, key, out));
    if (*out > 0) return 0;
    return error_set(ERR_DATA, "\"%s\" is %g, expected more than 0", key, *out);
}

static int read_rates(PlanMachine *m, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *j = json_array_get(list, i);
        if (m->nrates == RATES_MAX)
            return error_set(ERR_DATA, "more than %d entries in \"rates\"", RATES_MAX);
        PlanRates *r = &m->rates[m->nrates];
        double threads;
        TRY(positive(j, "threads", &threads));
        r->threads = (int64_t)threads;
        for (int k = 0; k < FIELDS; k++) {
            TRY(positive(j, fields[k].name, field_of(r, k)));
            *field_of(r, k) *= 1e9;
        }
        m->nrates++;
    }
    return m->nrates > 0 ? 0 : error_set(ERR_DATA, "\"rates\" is empty");
}

/* A case of rhetor-bench or a part of one; NULL: it was not run. */
static const json_t *case_of(const json_t *list, const char *name) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *j = json_array_get(list, i);
        const char *is = json_string_value(json_object_get(j, "name"));
        if (is && strcmp(is, name) == 0) return j;
    }
    return NULL;
}
/* FLOPs, bytes or seconds of a case; 0: it was not run. */
static double of(const json_t *j, const char *key) {
    double v;
    return j && json_get_f64(j, key, &v) >= 0 ? v : 0;
}

/* `rhetor-bench --all --json`: training from step-124m (with its small batch: what a micro-batch
 * costs beside its FLOPs) or step-small, forward from the scoring of ppo-small, decoding from 124m.
 */
static int read_bench(PlanMachine *m, const json_t *j) {
    const double weights = 124439808.0 * (double)sizeof(real); /* of 124m */
    const json_t *cases = json_object_get(j, "cases");
    const json_t *adamw = case_of(cases, "adamw-small"), *large = case_of(cases, "step-124m"),
                 *small = case_of(cases, "step-124m-t64"), *ppo = case_of(cases, "ppo-small"),
                 *scoring = case_of(json_object_get(ppo, "parts"), "scoring"),
                 *many = case_of(cases, "decode-124m-b32"), *one = case_of(cases, "decode-124m-b1");
    const char *kernel = json_string_value(json_object_get(j, "kernel"));
    const char *comma = kernel ? strstr(kernel, "OpenMP, ") : NULL;
    PlanRates *r = &m->rates[m->nrates];
    double fixed = 0;
    if (m->nrates == RATES_MAX) return error_set(ERR_DATA, "more than %d sets of rates", RATES_MAX);
    if (!comma || sscanf(comma, "OpenMP, %" SCNd64 " thread", &r->threads) != 1)
        return error_set(ERR_DATA, "\"kernel\" does not say how many threads were measured");
    if (!large) large = case_of(cases, "step-small"), small = NULL;
    if (!adamw || !large || !many || !one)
        return error_set(ERR_DATA, "has no case %s; run rhetor-bench --all --json FILE",
                         !adamw   ? "adamw-small"
                         : !large ? "step-124m or step-small"
                                  : "decode-124m-b1 or -b32");
    r->update = of(adamw, "bytes") / of(adamw, "seconds");
    r->train = of(large, "flops") / of(large, "seconds");
    r->micro = r->update;
    if (small) {
        const double update = 9 * weights / r->update;
        r->train = rate_of(of(large, "flops"), of(large, "seconds") - update, of(small, "flops"),
                           of(small, "seconds") - update, &fixed);
        if (fixed > 0) r->micro = weights / fixed;
    }
    r->forward = scoring ? of(scoring, "flops") / of(scoring, "seconds") : r->train;
    r->decode = rate_of(of(many, "flops"), of(many, "seconds"), of(one, "flops"),
                        of(one, "seconds"), &fixed);
    r->decode_read = fixed > 0 ? of(many, "bytes") / fixed : unmeasurable;
    for (int k = 0; k < FIELDS; k++)
        if (!(*field_of(r, k) > 0 && isfinite(*field_of(r, k))))
            return error_set(ERR_DATA, "its cases give %s of %g", fields[k].name, *field_of(r, k));
    m->nrates++;
    return 0;
}

static int read_comm(PlanMachine *m, const json_t *j) {
    double nodes, latency, bandwidth;
    TRY(positive(j, "nodes", &nodes));
    TRY(positive(j, "latency_us", &latency));
    TRY(positive(j, "bandwidth_gbs", &bandwidth));
    *(nodes > 1 ? &m->net.latency : &m->net.node_latency) = latency * 1e-6;
    *(nodes > 1 ? &m->net.bandwidth : &m->net.node_bandwidth) = bandwidth * 1e9;
    return 0;
}

int machine_read(PlanMachine *m, const char *path) {
    json_t *j = NULL;
    TRY(json_read_file(&j, path));
    const json_t *rates = json_object_get(j, "rates"), *comm = json_object_get(j, "comm");
    int rc = 0;
    const bool bench = json_is_array(json_object_get(j, "cases"));
    if (!json_is_array(rates) && !json_is_object(comm) && !bench)
        rc = error_set(ERR_DATA, "has neither \"rates\" (rhetor-plan --save-rates), \"cases\" "
                                 "(rhetor-bench --json) nor \"comm\" (rhetor-bench comm --json)");
    if (rc >= 0 && json_is_array(rates)) rc = read_rates(m, rates);
    if (rc >= 0 && bench) rc = read_bench(m, j);
    if (rc >= 0 && json_is_object(comm)) rc = read_comm(m, comm);
    if (rc >= 0 && !(json_is_object(comm) && !json_is_array(rates) && !bench)) {
        const char *said = json_string_value(json_object_get(j, "origin"));
        free(m->origin);
        m->origin = said ? xstrdup(said) : xstrdup(path);
    }
    json_decref(j);
    return rc < 0 ? error_wrap(rc, "%s", path) : 0;
}

json_t *machine_json(const PlanMachine *m) {
    json_t *list = json_array();
    for (int i = 0; i < m->nrates; i++) {
        PlanRates r = m->rates[i];
        json_t *j = json_pack("{s:I}", "threads", (json_int_t)r.threads);
        for (int k = 0; k < FIELDS; k++)
            json_object_set_new(j, fields[k].name, json_real(*field_of(&r, k) / 1e9));
        json_array_append_new(list, j);
    }
    return json_pack("{s:s, s:o}", "origin", m->origin ? m->origin : "", "rates", list);
}
