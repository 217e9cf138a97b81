/* selftest.c: the ten checks that a PPO implementation must pass, on random small models, on the
 * machine where it will run. Each is a property that common mistakes break (docs/MATH.md,
 * "Checks"). */
#include "rlhf/selftest.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "rlhf/iteration.h"
#include "rlhf/ranking.h"
#include "rlhf/score.h"
#include "train/run_impl.h"

enum { VOCAB = 37, CONTEXT = 32, EPISODES = 16, PROMPTS = 8, RESPONSE = 12, STOP = 0 };

/* Four small random models and prompts. */
typedef struct Lab {
    Run *run;
    Gpt *policy, *reference, *reward, *critic;
    int32_t token[PROMPTS][CONTEXT];
    Sequence seq[PROMPTS];
    int64_t first[PROMPTS + 1];
    Dataset prompts;
    int64_t item[EPISODES];
    Ppo ppo;
} Lab;

static int open_model(Gpt **g, bool head, uint64_t seed) {
    GptConfig c = {.vocab = VOCAB,
                   .context = CONTEXT,
                   .layers = 2,
                   .heads = 2,
                   .width = 16,
                   .bias = true,
                   .scalar_head = head,
                   .norm_eps = 1e-5};
    TRY(gpt_open(g, &c, true));
    gpt_init(*g, seed, INIT_GPT2);
    /* larger weights than those of a fresh model, so that distributions are not all alike */
    for (int64_t i = 0; i < (*g)->params.size; i++) (*g)->params.data[i] *= 4;
    if (head) gpt_init_head(*g, seed);
    return 0;
}

static int lab_open(Lab *l, Run *run) {
    *l = (Lab){.run = run};
    const RngKey key = {.seed = 7, .purpose = RNG_TEST};
    TRY(open_model(&l->policy, false, 1));
    TRY(open_model(&l->reference, false, 1));
    TRY(open_model(&l->reward, true, 2));
    TRY(open_model(&l->critic, true, 2));
    for (int64_t i = 0; i < PROMPTS; i++) {
        int64_t n = 3 + rng_below(&key, (uint64_t)i, 0, 0, 10);
        for (int64_t t = 0; t < n; t++)
            l->token[i][t] = (int32_t)(1 + rng_below(&key, (uint64_t)i, (uint32_t)t, 1, VOCAB - 1));
        l->seq[i] = (Sequence){.tokens = l->token[i], .n = n, .prompt = n};
        l->first[i + 1] = i + 1;
    }
    l->prompts = (Dataset){.kind = DATASET_PROMPTS, .n = PROMPTS, .first = l->first, .seq = l->seq};
    for (int64_t i = 0; i < EPISODES; i++) l->item[i] = i % PROMPTS;
    Ppo *p = &l->ppo;
    p->o = (PpoOptions){.batch = EPISODES,
                        .minibatches = 4,
                        .epochs = 2,
                        .micro_tokens = 64,
                        .temperature = 0.8,
                        .clip = 0.2,
                        .clip_value = 0.2,
                        .gamma = 1,
                        .lambda = 0.95,
                        .no_stop_score = -1,
                        .whiten = true,
                        .seed = 3};
    p->kl = (KlControl){.adaptive = true, .beta = 0.05, .target = 6, .horizon = 10000};
    p->reference = l->reference;
    p->reward = l->reward;
    p->comm = run->comm;
    trainer_open(&p->policy, l->policy, run, "");
    trainer_open(&p->critic, l->critic, run, "critic/");
    ema_init(&p->ema, &l->policy->params, 0.9);
    run_keep_params(run, "ema", &l->policy->params, p->ema.w);
    run_keep_f64(run, "kl_beta", &p->kl.beta);
    return 0;
}

static void lab_close(Lab *l) {
    trainer_close(&l->ppo.policy);
    trainer_close(&l->ppo.critic);
    ema_free(&l->ppo.ema);
    gpt_close(&l->policy);
    gpt_close(&l->reference);
    gpt_close(&l->reward);
    gpt_close(&l->critic);
}

static int sample(Lab *l, Episodes *e, int64_t iteration) {
    static const int32_t stop = STOP;
    const DecodeOptions o = {.temperature = l->ppo.o.temperature,
                             .top_p = 1,
                             .max_new = RESPONSE,
                             .stop = &stop,
                             .nstop = 1,
                             .seed = 5,
                             .step = (uint32_t)iteration};
    TRY(rollout_sample(e, l->policy, &l->prompts, l->item, EPISODES,
                       (uint64_t)(iteration * EPISODES), &o, l->ppo.comm));
    iteration_score(&l->ppo, e, iteration);
    return 0;
}

static int iteration(Lab *l, int64_t i, PpoStats *s) {
    Episodes e = {0};
    *s = (PpoStats){0};
    TRY(sample(l, &e, i));
    iteration_advantages(&l->ppo, &e, s);
    int rc = iteration_update(&l->ppo, &e, i, 1e-2, 1e-2, s);
    rollout_free(&e);
    return rc;
}

/* --- the checks: each returns a number that must not exceed its bound ------------------------- */

static int failures;

static void verdict(const char *what, double found, double bound) {
    const bool ok = found <= bound; /* false for NaN */
    failures += !ok;
    printf("  %-4s %-68s %10.2e <= %.0e\n", ok ? "ok" : "FAIL", what, found, bound);
}

/* 1, 2 */
static int check_first_update(Lab *l) {
    PpoStats s;
    TRY(iteration(l, 0, &s));
    verdict("1. first minibatch: ratio 1, approxkl 0, clipfrac 0",
            s.first_ratio_gap + s.first_approxkl + s.first_clipfrac, 0);
    verdict("2. KL(policy || reference) before the first update", fabs(s.kl) + s.kl3, 0);
    verdict("   sampler against training forward, log-probability", s.decode_gap, PPO_DECODE_GAP);
    return 0;
}

/* 3 */
static void check_normalisation(Lab *l) {
    float r[PROMPTS];
    double after = 0;
    RankStats s;
    score_normalise(l->reward, l->seq, PROMPTS, 40, l->ppo.comm, &s);
    score_sequences(l->reward, l->seq, PROMPTS, 40, r);
    for (int i = 0; i < PROMPTS; i++) after += (double)r[i] / PROMPTS;
    verdict("3. mean reward of the references after normalisation", fabs(after), 1e-5);
}

/* 4 */
static void check_packing(Lab *l) {
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Batch all = {0}, one = {0};
    real packed[PROMPTS * CONTEXT], alone[CONTEXT];
    double worst = 0;
    for (int64_t i = 0; i < PROMPTS; i++)
        batch_add(&all, l->seq[i].tokens, l->seq[i].n, NULL, 1.0f, 0);
    Batch b = all;
    gpt_score(l->policy, tape, &b, NULL, 1, packed, NULL);
    for (int64_t i = 0; i < PROMPTS; i++) {
        batch_clear(&one);
        batch_add(&one, l->seq[i].tokens, l->seq[i].n, NULL, 1.0f, 0);
        Batch o = one;
        gpt_score(l->policy, tape, &o, NULL, 1, alone, NULL);
        for (int64_t t = 0; t + 1 < o.n; t++) { /* gcc 12 for aarch64 breaks down over fmax here */
            const double gap = (double)alone[t] - (double)packed[b.start[i] + t];
            if (fabs(gap) > worst) worst = fabs(gap);
        }
    }
    verdict("4. log-probabilities alone and packed anywhere", worst, 1e-5);
    tape_close(&tape);
    arena_free(&arena);
    batch_free(&all);
    batch_free(&one);
}

/* 5: A_t = sum over k of (gamma lambda)^k delta_{t+k} */
static void check_gae(void) {
    enum { N = 20 };
    const RngKey key = {.seed = 8, .purpose = RNG_TEST};
    const double gamma = 0.97, lambda = 0.9;
    float r[N], v[N], a[N], ret[N];
    double worst = 0;
    for (int t = 0; t < N; t++) {
        r[t] = (float)rng_uniform(&key, 0, (uint32_t)t, 0) - 0.5f;
        v[t] = (float)rng_uniform(&key, 1, (uint32_t)t, 0) - 0.5f;
    }
    ppo_gae(r, v, N, gamma, lambda, a, ret);
    for (int t = 0; t < N; t++) {
        double sum = 0, factor = 1;
        for (int k = t; k < N; k++, factor *= gamma * lambda)
            sum +=
                factor * ((double)r[k] + (k + 1 < N ? gamma * (double)v[k + 1] : 0) - (double)v[k]);
        worst =
            fmax(worst, fmax(fabs(sum - (double)a[t]), fabs(sum + (double)v[t] - (double)ret[t])));
    }
    verdict("5. GAE against the sum over all later steps", worst, 1e-6);
}

/* 6 */
static void check_pairwise(void) {
    const float r[2] = {0.3f, 1.1f};
    const int32_t rank[2] = {2, 1};
    double dr[2], diff = (double)r[1] - (double)r[0], loss = ranking_loss(r, rank, 2, dr, NULL);
    double gap = fabs(loss + log(1 / (1 + exp(-diff)))) + fabs(dr[1] + 1 / (1 + exp(diff))) +
                 fabs(dr[0] + dr[1]);
    verdict("6. ranking loss of two completions equals the pairwise loss", gap, 1e-12);
}

/* 7 */
static int check_whitening(Lab *l) {
    Episodes e = {0};
    PpoStats s = {0};
    TRY(sample(l, &e, 1));
    iteration_advantages(&l->ppo, &e, &s);
    double mean = 0, var = 0;
    const int64_t n = e.first[e.n];
    for (int64_t t = 0; t < n; t++) mean += (double)e.advantage[t] / (double)n;
    for (int64_t t = 0; t < n; t++) var += pow((double)e.advantage[t] - mean, 2) / (double)n;
    verdict("7. whitened advantages: mean 0, variance 1 over the global batch",
            fabs(mean) + fabs(var - 1), 1e-5);
    rollout_free(&e);
    return 0;
}

/* 8: the gradients of a batch on so many virtual ranks, with micro-batches of micro_tokens */
static int split_gradient(Lab *l, const Episodes *e, int ranks, int64_t micro_tokens, real *policy,
                          real *critic) {
    int64_t all[EPISODES];
    for (int64_t i = 0; i < EPISODES; i++) all[i] = i;
    Minibatch m = {&l->ppo, e, all, EPISODES, 1.0 / (double)e->first[e->n]};
    Step step[2];
    real *out[2] = {policy, critic};
    iteration_steps(&m, step);
    for (int i = 0; i < 2; i++) {
        Trainer *t = step[i].trainer;
        ParamSet *ps = &t->gpt->params;
        const VirtualRanks before = t->ranks;
        virtual_open(&t->ranks, ranks, l->ppo.comm);
        step[i].micro_tokens = micro_tokens;
        TRY(step_passes(&step[i]));
        memcpy(out[i], ps->grad, (size_t)ps->size * sizeof(real));
        paramset_zero_grad(ps);
        virtual_close(&t->ranks);
        t->ranks = before;
    }
    return 0;
}

static double relative_gap(const real *a, const real *b, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2);
        norm += (double)a[i] * (double)a[i];
    }
    return sqrt(diff / norm);
}

static int check_splits(Lab *l) {
    const int64_t na = l->policy->params.size, nb = l->critic->params.size;
    real *a = xcalloc((size_t)(2 * (na + nb)), sizeof *a), *b = a + na, *c = b + nb, *d = c + na;
    double worst = 0;
    Episodes e = {0};
    PpoStats s = {0};
    TRY(sample(l, &e, 2));
    iteration_advantages(&l->ppo, &e, &s);
    TRY(split_gradient(l, &e, 1, 1 << 20, a, b));
    static const int ranks[] = {1, 2, 4, 8};
    for (int k = 0; k < 4; k++) {
        TRY(split_gradient(l, &e, ranks[k], 48, c, d));
        worst = fmax(worst, fmax(relative_gap(a, c, na), relative_gap(b, d, nb)));
    }
    verdict("8. gradients of any split into ranks and micro-batches", worst, 1e-5);
    rollout_free(&e);
    free(a);
    return 0;
}

/* 9: central differences with one step of Richardson's extrapolation */
enum { RANKING, POLICY, POLICY_WORSE, VALUE };

static double loss_at(int which, double x, double *slope) {
    static const int32_t rank[4] = {2, 1, 3, 2};
    const float r[4] = {(float)x, 0.5f, -0.25f, 0.75f};
    double dr[4], loss;
    bool clipped;
    switch (which) {
    case RANKING: loss = ranking_loss(r, rank, 4, dr, NULL); break;
    case VALUE: loss = ppo_value_loss(x, 0.1, 1.0, 0.2, dr, &clipped); break;
    default: loss = ppo_policy_loss(x, -1, which == POLICY ? 0.7 : -0.7, 0.2, dr, &clipped);
    }
    *slope = dr[0];
    return loss;
}

static double slope_gap(int which, double x) {
    const double h = 1.0 / 64;
    double slope, unused, d[2];
    for (int k = 0; k < 2; k++)
        d[k] =
            (loss_at(which, x + h / (1 + k), &unused) - loss_at(which, x - h / (1 + k), &unused)) /
            (2 * h / (1 + k));
    loss_at(which, x, &slope);
    return fabs((4 * d[1] - d[0]) / 3 - slope);
}

static double model_slope_gap(Lab *l) {
    ParamSet *ps = &l->policy->params;
    const Step step = {.trainer = &l->ppo.policy};
    Batch pack = {0};
    for (int64_t i = 0; i < PROMPTS; i++)
        batch_add(&pack, l->seq[i].tokens, l->seq[i].n, NULL, 0.02f, 0);
    AUTOFREE real *g = xmalloc((size_t)ps->size * sizeof *g);
    double norm2 = 0, f[2] = {0};
    step_lm(&step, NULL, &pack, 0, 0, f);
    trainer_backward(step.trainer);
    gpt_sum_tied(l->policy);
    for (int64_t i = 0; i < ps->size; i++) {
        g[i] = ps->grad[i];
        norm2 += (double)g[i] * (double)g[i];
    }
    const double h = 2e-3 / sqrt(norm2);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < ps->size; i++) ps->data[i] += (real)((side ? -2 : 1) * h) * g[i];
        f[side] = 0;
        step_lm(&step, NULL, &pack, 0, 0, &f[side]);
        trainer_backward(step.trainer);
    }
    for (int64_t i = 0; i < ps->size; i++) ps->data[i] += (real)h * g[i];
    gpt_sum_tied(l->policy);
    paramset_zero_grad(ps);
    batch_free(&pack);
    return fabs((f[0] - f[1]) / (2 * h) / norm2 - 1);
}

static void check_slopes(Lab *l) {
    static const double at[][5] = {[RANKING] = {0.125, 0, 1, -1, 0.5},
                                   [POLICY] = {-1.05, -0.9, -0.5, -1.6, -1},
                                   [POLICY_WORSE] = {-1.05, -0.9, -0.5, -1.6, -1},
                                   [VALUE] = {0.05, 0.2, 0.6, -0.5, 1.5}};
    double worst = 0;
    for (int which = RANKING; which <= VALUE; which++)
        for (int i = 0; i < 5; i++) worst = fmax(worst, slope_gap(which, at[which][i]));
    verdict("9. finite differences: ranking, policy and value losses", worst, 1e-5);
    verdict("   language-model loss along its gradient (float)", model_slope_gap(l), 1e-2);
}

/* 10: save, go on, restore, go on again */
enum { RESUMED = 7 }; /* weights and moments of policy and critic, the policy's average */

static int check_resume(Lab *l) {
    Run *run = l->run;
    const AdamW *a = &l->ppo.policy.adam, *b = &l->ppo.critic.adam;
    const int64_t na = l->policy->params.size, nb = l->critic->params.size;
    const struct {
        const real *data;
        int64_t n;
    } array[RESUMED] = {{l->policy->params.data, na},
                        {a->m, na},
                        {a->v, na},
                        {l->critic->params.data, nb},
                        {b->m, nb},
                        {b->v, nb},
                        {l->ppo.ema.w, na}};
    real *after[RESUMED];
    PpoStats s;
    run->step = 3;
    run->steps = 100;
    TRY(run_save(run));
    TRY(iteration(l, 3, &s));
    for (int k = 0; k < RESUMED; k++) {
        after[k] = xmalloc((size_t)array[k].n * sizeof(real));
        memcpy(after[k], array[k].data, (size_t)array[k].n * sizeof(real));
    }
    const double beta = l->ppo.kl.beta;
    TRY(iteration(l, 4, &s)); /* spoils everything */
    TRY(run_resume(run));
    TRY(iteration(l, 3, &s));
    double differ = l->ppo.kl.beta != beta;
    for (int k = 0; k < RESUMED; k++) {
        differ += memcmp(after[k], array[k].data, (size_t)array[k].n * sizeof(real)) != 0;
        free(after[k]);
    }
    verdict("10. resumed run: weights, moments, average, KL weight (that differ)", differ, 0);
    return 0;
}

static int run_checks(Lab *l) {
    TRY(check_first_update(l));
    check_normalisation(l);
    check_packing(l);
    check_gae();
    check_pairwise();
    TRY(check_whitening(l));
    TRY(check_splits(l));
    check_slopes(l);
    return check_resume(l);
}

int selftest_run(Run *run) {
    const char *tmp = getenv("TMPDIR");
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s/rhetor-selftest-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (comm_size(run->comm) > 1)
        return error_set(ERR_USAGE, "--selftest runs on one rank, without mpirun");
    if (!mkdtemp(dir))
        return error_set(ERR_IO, "%s: no temporary folder can be made: %m; is TMPDIR right?", dir);
    free(run->priv->ckpt_dir);
    run->priv->ckpt_dir = file_join(dir, "checkpoints");
    const char *run_dir = run->cfg.run_dir;
    run->cfg.run_dir = dir;
    printf("rhetor-ppo --selftest\n");
    failures = 0;
    Lab l = {0};
    int rc = file_make_dirs(run->priv->ckpt_dir);
    if (rc == 0) rc = lab_open(&l, run);
    if (rc == 0) rc = run_checks(&l);
    lab_close(&l);
    char *clean = xasprintf("rm -rf '%s'", dir);
    if (system(clean) != 0) printf("%s was left behind\n", dir);
    free(clean);
    run->cfg.run_dir = run_dir;
    TRY(rc);
    printf("%s\n",
           failures ? "the implementation is NOT right on this machine" : "all checks hold");
    return failures ? error_set(ERR_INTERNAL, "%d checks of the self-test failed", failures) : 0;
}
