/* bench_ppo.c: one iteration of PPO, by the functions that rhetor-ppo calls, in three parts:
 * rollout, scoring with the advantages, update. Four models of the case's size, as there: policy,
 * critic, frozen reference and reward model. One inner epoch over minibatches of 16 episodes.
 *
 * No token stops a response. With fixed lengths all have max_new tokens; ragged ones are ended by
 * the callback that streaming uses, at lengths drawn as if each token were the last with
 * probability STOP, the uniform numbers spread evenly: mean 24 where at most 64 tokens are made.
 * The sampler does not know the length before its end. tests/peers/torch_ppo.py draws the same.
 * See bench.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/rng.h"
#include "rlhf/iteration.h"
#include "tools/bench/bench.h"

enum { MINIBATCH = 16, MICRO_TOKENS = 8192 /* the default */, SPREAD = 37 /* odd */ };
static const double STOP = 0.0385;

enum { ROLLOUT, SCORING, UPDATE };

typedef struct PpoLab {
    Ppo ppo;
    Dataset prompts;
    DecodeOptions decode;
    Episodes e;
    int64_t *item, *length, *made; /* [B] */
    int64_t iteration;
} PpoLab;

static int on_token(void *ctx, int64_t prompt, int32_t token) {
    PpoLab *l = ctx;
    return ++l->made[prompt] == l->length[prompt];
}

static int64_t length_of(const Case *c, int64_t i) {
    if (!c->ragged) return c->max_new;
    const double u = ((double)(i * SPREAD % c->B) + 0.5) / (double)c->B;
    const int64_t n = 1 + (int64_t)floor(log(1 - u) / log(1 - STOP));
    return n < c->max_new ? n : c->max_new;
}

static int open_model(Gpt **out, const GptConfig *base, bool head, bool train, uint64_t seed) {
    GptConfig cfg = *base;
    cfg.scalar_head = head;
    TRY(gpt_open(out, &cfg, train));
    gpt_init(*out, seed, INIT_GPT2);
    if (head) gpt_init_head(*out, seed);
    return 0;
}

/* As trainer_open does, without a run that saves. */
static int open_trainer(Trainer *t, const GptConfig *base, bool head, uint64_t seed, Comm *comm) {
    Gpt *g;
    TRY(open_model(&g, base, head, true, seed));
    trainer_start(t, g, comm, SHARD_NONE, &(AdamW){.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8});
    t->clip = 1;
    return 0;
}

static void open_prompts(PpoLab *l, const Case *c) {
    const RngKey key = {.seed = 2, .purpose = RNG_TEST};
    int32_t *tokens = xmalloc((size_t)(c->B * c->T) * sizeof *tokens);
    Sequence *seq = xmalloc((size_t)c->B * sizeof *seq);
    int64_t *first = xmalloc((size_t)(c->B + 1) * sizeof *first);
    for (int64_t i = 0; i < c->B * c->T; i++)
        tokens[i] = (int32_t)rng_below(&key, (uint64_t)i, 0, 0, (uint32_t)c->model->vocab);
    for (int64_t i = 0; i <= c->B; i++) first[i] = i;
    for (int64_t i = 0; i < c->B; i++)
        seq[i] = (Sequence){.tokens = tokens + i * c->T, .n = c->T, .prompt = c->T};
    l->prompts = (Dataset){.kind = DATASET_PROMPTS, .n = c->B, .first = first, .seq = seq};
}

/* Blocks see every token of an episode but, in the rollout, the last; the end of the last block and
 * the head see the positions that choose a response token: the sampler's, the policy's, the
 * critic's and the reference's. Of the reward model it is one position. */
static void count(BenchWork *w, const PpoLab *l) {
    const Case *c = w->c;
    const GptConfig *g = c->model;
    double rollout = 0, trunk = 0, reward = 0, head = 0, made = 0;
    for (int64_t i = 0; i < c->B; i++) {
        const double len = (double)l->length[i], n = (double)c->T + len;
        rollout += bench_trunk_flops(g, n - 1, len) + bench_head_flops(g, len);
        trunk += bench_trunk_flops(g, n, len);
        reward += bench_trunk_flops(g, n, 1);
        head += bench_head_flops(g, len);
        made += len;
    }
    const double all = made + (double)(c->B * c->T);
    w->nparts = 3;
    w->tokens = made;
    w->part[ROLLOUT] = (BenchPart){.name = "rollout", .flops = rollout, .tokens = made};
    w->part[SCORING] =
        (BenchPart){.name = "scoring", .flops = 3 * trunk + reward + 2 * head, .tokens = all};
    w->part[UPDATE] = (BenchPart){.name = "update", .flops = 3 * (2 * trunk + head), .tokens = all};
}

static int ppo_open(BenchWork *w) {
    const Case *c = w->c;
    const GptConfig *g = c->model;
    PpoLab *l = w->priv = xcalloc(1, sizeof *l);
    Ppo *p = &l->ppo;
    p->o = (PpoOptions){.batch = c->B,
                        .minibatches = c->B / MINIBATCH,
                        .epochs = 1,
                        .micro_tokens = MICRO_TOKENS,
                        .temperature = 1,
                        .clip = 0.2,
                        .clip_value = 0.2,
                        .gamma = 1,
                        .lambda = 0.95,
                        .whiten = true,
                        .seed = 3};
    p->kl = (KlControl){.beta = 0.05};
    TRY(comm_open_alone(&p->comm));
    TRY(open_trainer(&p->policy, g, false, 1, p->comm));
    TRY(open_trainer(&p->critic, g, true, 2, p->comm));
    TRY(open_model(&p->reference, g, false, false, 1));
    TRY(open_model(&p->reward, g, true, false, 2));
    open_prompts(l, c);
    l->item = xmalloc((size_t)c->B * sizeof *l->item);
    l->length = xmalloc((size_t)c->B * sizeof *l->length);
    l->made = xmalloc((size_t)c->B * sizeof *l->made);
    for (int64_t i = 0; i < c->B; i++) {
        l->item[i] = i;
        l->length[i] = length_of(c, i);
    }
    l->decode = (DecodeOptions){.temperature = 1,
                                .top_p = 1,
                                .max_new = c->max_new,
                                .seed = 3,
                                .scratch = &p->policy.arena}; /* as rlhf/ppo.c */
    if (c->ragged) l->decode.on_token = on_token, l->decode.ctx = l;
    w->activations = &p->policy.arena;
    count(w, l);
    return 0;
}

static int run_rollout(PpoLab *l, const Case *c) {
    rollout_free(&l->e);
    l->iteration++;
    l->decode.step = (uint32_t)l->iteration;
    memset(l->made, 0, (size_t)c->B * sizeof *l->made);
    TRY(rollout_sample(&l->e, l->ppo.policy.gpt, &l->prompts, l->item, c->B,
                       (uint64_t)(l->iteration * c->B), &l->decode, l->ppo.comm));
    for (int64_t i = 0; i < c->B; i++) {
        CHECK(rollout_length(&l->e, i) == l->length[i], "response %lld has %lld tokens, not %lld",
              (long long)i, (long long)rollout_length(&l->e, i), (long long)l->length[i]);
        l->e.stopped[i] = 1; /* so that the reward model's score counts */
    }
    return 0;
}

static double ppo_run(BenchWork *w, int part) {
    PpoLab *l = w->priv;
    PpoStats stats = {0};
    int rc = 0;
    double t = bench_seconds();
    switch (part) {
    case ROLLOUT: rc = run_rollout(l, w->c); break;
    case SCORING:
        iteration_score(&l->ppo, &l->e, l->iteration);
        iteration_advantages(&l->ppo, &l->e, &stats);
        break;
    case UPDATE: rc = iteration_update(&l->ppo, &l->e, l->iteration, 1e-5, 1e-5, &stats); break;
    }
    CHECK(rc == 0, "%s: %s", w->c->name, error_message());
    return bench_seconds() - t;
}

const BenchKind bench_ppo = {ppo_open, ppo_run};
