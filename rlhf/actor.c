/* actor.c: sampling, replaying, showing. See actor.h. */
#include "rlhf/actor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "data/order.h"
#include "dist/watchdog.h"

int actor_stop(Loaded *policy, Run *run) {
    const Config *c = &run->cfg;
    const int32_t stop = c->ppo_stop[0] ? tokenizer_id(policy->tokenizer, c->ppo_stop)
                         : policy->nend ? policy->stop[0]
                                        : -1;
    if (stop < 0)
        return config_bad(c, "ppo.stop", "\"%s\" is not one token of the model's tokenizer",
                          c->ppo_stop[0] ? c->ppo_stop : "<|endoftext|>");
    if (c->ppo_stop[0]) load_end_with(policy, stop);
    if (policy->nend == 1) run_stop_token(run, stop);
    return 0;
}

Actor actor_of(const Loaded *policy, const Dataset *prompts, const Run *run, Arena *scratch,
               Comm *comm) {
    const Config *c = &run->cfg;
    return (Actor){.policy = policy,
                   .prompts = prompts,
                   .comm = comm,
                   .decode = {.temperature = c->ppo_temperature,
                              .top_p = 1,
                              .max_new = c->ppo_max_response,
                              .seed = (uint64_t)c->run_seed,
                              .scratch = scratch}};
}

static int alive(void *ctx, int64_t prompt, int32_t token) {
    watchdog_beat();
    return 0;
}

int actor_answer(const Actor *a, const Dataset *prompts, const int64_t *item, int64_t n,
                 uint64_t first, uint32_t step, Episodes *e) {
    AUTOFREE int64_t *all = xmalloc((size_t)(n + 1) * sizeof *all);
    for (int64_t i = 0; i < n; i++) all[i] = item ? item[i] : i;
    DecodeOptions o = a->decode;
    o.stop = a->policy->stop;
    o.nstop = a->policy->nstop;
    o.step = step;
    o.on_token = alive;
    watchdog_enter(PHASE_ROLLOUT);
    TRY(rollout_sample(e, a->policy->gpt, prompts, all, n, first, &o, a->comm));
    for (int64_t i = 0; i < n; i++)
        e->stopped[i] = load_finished(a->policy, e->tokens[e->start[i + 1] - 1]);
    return 0;
}

static int keep(const Run *run, const Episodes *e, const char *name) {
    AUTOFREE char *dir = file_join(run->cfg.run_dir, "rollouts");
    AUTOFREE char *path = file_join(dir, name);
    TRY(file_make_dirs(dir));
    return rollout_write(e, path);
}

int actor_episodes(const Actor *a, Run *run, int64_t n, Episodes *e) {
    const Config *c = &run->cfg;
    const int64_t first = (run->step + a->rounds) * n, samples = a->samples > 0 ? a->samples : 1;
    AUTOFREE char *name = xasprintf("iteration_%06" PRId64 ".jsonl", run->step);
    if (c->ppo_replay[0]) {
        AUTOFREE char *path = file_join(c->ppo_replay, name);
        return rollout_read(e, path, n, a->policy->cfg.vocab, a->policy->cfg.context);
    }
    AUTOFREE int64_t *item = xmalloc((size_t)n * sizeof *item);
    for (int64_t i = 0; i < n; i++)
        item[i] = order_stream((uint64_t)c->run_seed, (first + i) / samples, a->prompts->n);
    TRY(actor_answer(a, a->prompts, item, n, (uint64_t)first, (uint32_t)run->step, e));
    if (!c->ppo_save_rollouts || run->dry) return 0;
    return comm_agree(run->comm, run->main_rank ? keep(run, e, name) : 0);
}

void actor_show(const Actor *a, Run *run, const Episodes *e, int64_t i) {
    const int32_t *t = e->tokens + e->start[i];
    const Tokenizer *tk = a->policy->tokenizer;
    AUTOFREE char *prompt = NULL, *response = NULL;
    if (tokenizer_decode(tk, t, e->prompt[i], false, &prompt, NULL) < 0 ||
        tokenizer_decode(tk, t + e->prompt[i], rollout_length(e, i), false, &response, NULL) < 0)
        return;
    run_text(run, "--- iteration %" PRId64 ", score %.3f\n%s[%s]\n", run->step + 1,
             (double)e->score[i], prompt, response);
}

int actor_evaluate(const Actor *a, Run *run, const Dataset *heldout,
                   int (*score)(void *ctx, Episodes *e), void *ctx) {
    const int64_t most = run->cfg.eval_records,
                  n = most > 0 && most < heldout->n ? most : heldout->n;
    double mean = 0, stopped = 0;
    Episodes e = {0};
    TRY(actor_answer(a, heldout, NULL, n, 0, UINT32_MAX, &e));
    watchdog_enter(PHASE_EVAL);
    const int rc = score(ctx, &e);
    for (int64_t i = 0; i < n; i++) {
        mean += (double)e.score[i] / (double)n;
        stopped += e.stopped[i] / (double)n;
    }
    const double length = (double)e.first[n] / (double)n;
    run_metric(run, "eval/score", mean);
    run_metric(run, "eval/length", length);
    run_metric(run, "eval/stopped", stopped);
    run_eval_result(run, -mean);
    for (int64_t i = 0; i < n && i < 4; i++) actor_show(a, run, &e, i);
    if (run->main_rank && rc == 0)
        log_info("step %" PRId64 ": held-out score %.4f, %.1f tokens, %.1f %% stopped",
                 run->step + 1, mean, length, 100 * stopped);
    rollout_free(&e);
    return rc;
}
