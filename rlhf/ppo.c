/* rhetor-ppo: reinforcement learning from a reward model by PPO (Ouyang 2022, section 3.5 and App.
 * C; Schulman 2017; Ziegler 2019).
 *
 * for each iteration:                                              rlhf/iteration.c
 *     episodes <- policy's responses to a batch of prompts         rollout_sample
 *     old and reference log-probabilities, values, scores          iteration_score
 *     rewards with the KL penalty, GAE, whitening                  iteration_advantages
 *     inner epochs over minibatches: policy (+ ptx), critic, EMA   iteration_update
 *
 * Four networks: the policy and the frozen reference begin as the SFT model, the critic and the
 * frozen reward model as the reward model. A step of the run is an iteration; checkpoints fall
 * between them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/load.h"
#include "data/order.h"
#include "dist/watchdog.h"
#include "rlhf/iteration.h"
#include "rlhf/score.h"
#include "rlhf/selftest.h"
#include "train/memory.h"

typedef struct Stage {
    Loaded policy, reward;
    Gpt *reference, *critic; /* begin as those */
    Dataset prompts, heldout;
    Ppo ppo;
    DecodeOptions decode;
    int32_t stop[LOAD_STOPS]; /* [nstop] the stop token, then others that end a text */
    int nstop;
    int64_t *item; /* [batch] prompts of the iteration */
    bool gap_reported, no_stop_reported;
} Stage;

/* --- opening ---------------------------------------------------------------------------------- */

static int open_models(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    TRY(load_open(&s->policy, c->from_model, "from.model", LOAD_LANGUAGE, run->comm));
    TRY(load_open(&s->reward, c->from_reward, "from.reward", LOAD_REWARD, run->comm));
    TRY(load_same_tokenizer(&s->policy, &s->reward));
    if (s->reward.cfg.context < s->policy.cfg.context)
        return config_bad(c, "from.reward",
                          "the reward model's context of %" PRId64
                          " is shorter than the policy's %" PRId64,
                          s->reward.cfg.context, s->policy.cfg.context);
    run_describe(run, &s->policy.cfg, s->policy.tokenizer, s->policy.tmpl,
                 c->ppo_ema > 0 ? "ema" : "params");
    run_parent(run, "model", s->policy.id);
    run_parent(run, "reward", s->reward.id);
    return 0;
}

static int find_stop(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    const int32_t eos = tokenizer_eos(s->policy.tokenizer);
    s->stop[0] = c->ppo_stop[0] ? tokenizer_id(s->policy.tokenizer, c->ppo_stop) : eos;
    if (s->stop[0] < 0)
        return config_bad(c, "ppo.stop", "\"%s\" is not one token of the model's tokenizer",
                          c->ppo_stop[0] ? c->ppo_stop : "<|endoftext|>");
    int64_t n;
    const int32_t *own = tokenizer_stops(s->policy.tokenizer, &n);
    if (n == 0) n = eos >= 0, own = &eos;
    s->nstop = 1;
    for (int64_t i = 0; i < n && s->nstop < LOAD_STOPS; i++)
        if (own[i] != s->stop[0]) s->stop[s->nstop++] = own[i];
    run_stop_token(run, s->stop[0]);
    return 0;
}

static int open_data(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    const int64_t context = s->policy.cfg.context;
    if (c->ppo_max_response >= context)
        return config_bad(c, "ppo.max_response",
                          "leaves no room for a prompt in the context of %" PRId64, context);
    if (c->ppo_minibatches > c->ppo_batch)
        return config_bad(c, "ppo.minibatches",
                          "is more than the %" PRId64 " episodes of ppo.batch", c->ppo_batch);
    if (c->ppo_kl == KL_ADAPTIVE && 0.2 * (double)c->ppo_batch >= c->ppo_kl_horizon)
        return config_bad(c, "ppo.kl_horizon",
                          "a batch of %" PRId64 " may lower beta by %.0f %%; expected more than a "
                          "fifth of ppo.batch, many times that as a rule",
                          c->ppo_batch, 20 * (double)c->ppo_batch / c->ppo_kl_horizon);
    DatasetOptions o;
    dataset_options(&o, c, s->policy.tokenizer, s->policy.tmpl, context);
    o.max_prompt = context - c->ppo_max_response;
    if (c->data_train.n > 0) /* a replay needs none */
        TRY(dataset_load(&s->prompts, DATASET_PROMPTS, &c->data_train, &o));
    if (c->data_heldout.n > 0)
        TRY(dataset_load(&s->heldout, DATASET_PROMPTS, &c->data_heldout, &o));
    run_data(run, "train", s->prompts.hash);
    if (c->ptx_coef > 0) {
        if (c->data_mix.n == 0)
            return config_bad(c, "ptx.coef", "the pretraining term needs a corpus in data.mix");
        TRY(windows_open(&s->ppo.ptx, &c->data_mix, tokenizer_hash(s->policy.tokenizer),
                         (uint64_t)c->run_seed, context));
        run_data(run, "mix", corpus_hash(s->ppo.ptx.corpus));
    }
    return 0;
}

/* Settings that do something else than one may think. */
static void watch_settings(const Run *run) {
    const Config *c = &run->cfg;
    if (!run->main_rank) return;
    if (c->data_mix.n > 0 && c->ptx_coef == 0)
        log_warn("data.mix is not read: ptx.coef is 0 and is the weight of the pretraining term");
    if (c->ppo_episodes % c->ppo_batch != 0)
        log_warn("ppo.episodes=%" PRId64 " is no multiple of ppo.batch=%" PRId64 ": %" PRId64
                 " iteration%s %" PRId64 " episodes",
                 c->ppo_episodes, c->ppo_batch, run->steps, run->steps == 1 ? " makes" : "s make",
                 run->steps * c->ppo_batch);
}

static int check_memory(Stage *s, Run *run) {
    PlanWork w = plan_work(&run->cfg);
    w.model = s->policy.cfg;
    if (s->prompts.n > 0) plan_records(&w, &s->prompts, DATASET_PROMPTS, false);
    w.length += w.response;
    if (s->ppo.ptx.corpus)
        TRY(corpus_window_mean(s->ppo.ptx.corpus, (uint64_t)run->cfg.run_seed, w.model.context,
                               &w.window));
    return memory_check(run, &w);
}

static int alive(void *ctx, int64_t prompt, int32_t token) {
    watchdog_beat();
    return 0;
}

static int open_all(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    TRY(open_models(s, run));
    TRY(find_stop(s, run));
    TRY(open_data(s, run));
    TRY(check_memory(s, run));
    TRY(load_weights(&s->policy, true));
    TRY(load_weights(&s->reward, false));
    TRY(gpt_open(&s->reference, &s->policy.cfg, false));
    TRY(gpt_copy(s->reference, s->policy.gpt));
    TRY(gpt_open(&s->critic, &s->reward.cfg, true));
    TRY(gpt_copy(s->critic, s->reward.gpt));
    Ppo *p = &s->ppo;
    p->o = (PpoOptions){.batch = c->ppo_batch,
                        .minibatches = c->ppo_minibatches,
                        .epochs = c->ppo_epochs,
                        .micro_tokens = c->train_micro_tokens,
                        .temperature = c->ppo_temperature,
                        .clip = c->ppo_clip,
                        .clip_value = c->ppo_clip_value,
                        .gamma = c->ppo_gamma,
                        .lambda = c->ppo_lambda,
                        .no_stop_score = c->ppo_no_stop_score,
                        .whiten = c->ppo_whiten,
                        .ptx_coef = c->ptx_coef,
                        .ptx_ratio = c->ptx_ratio,
                        .seed = (uint64_t)c->run_seed};
    p->kl = (KlControl){c->ppo_kl == KL_ADAPTIVE, c->ppo_beta, c->ppo_kl_target, c->ppo_kl_horizon};
    p->reference = s->reference;
    p->reward = s->reward.gpt;
    p->comm = run->comm;
    if (run->dry) TRY(comm_open_alone(&p->comm)); /* it plays all episodes */
    s->item = xmalloc((size_t)p->o.batch * sizeof *s->item);
    s->decode = (DecodeOptions){.temperature = p->o.temperature,
                                .top_p = 1,
                                .max_new = c->ppo_max_response,
                                .stop = s->stop,
                                .nstop = s->nstop,
                                .seed = p->o.seed,
                                .scratch = &p->policy.arena, /* idle then */
                                .on_token = alive};
    run->steps = (c->ppo_episodes + c->ppo_batch - 1) / c->ppo_batch;
    watch_settings(run);

    trainer_open(&p->policy, s->policy.gpt, run, "");
    trainer_open(&p->critic, s->critic, run, "critic/");
    if (c->ppo_ema > 0) {
        ema_init(&p->ema, &s->policy.gpt->params, c->ppo_ema);
        run_keep_params(run, "ema", &s->policy.gpt->params, p->ema.w);
    }
    run_keep_f64(run, "kl_beta", &p->kl.beta);
    return 0;
}

/* --- episodes --------------------------------------------------------------------------------- */

/* A response ends at the stop token, at the end-of-text token or at the limit; only the first has
 * stopped as it should. */
static int sample(Stage *s, const Dataset *prompts, const int64_t *item, int64_t n, uint64_t first,
                  const DecodeOptions *o, Episodes *e) {
    watchdog_enter(PHASE_ROLLOUT);
    TRY(rollout_sample(e, s->policy.gpt, prompts, item, n, first, o, s->ppo.comm));
    for (int64_t i = 0; i < n; i++) e->stopped[i] = e->tokens[e->start[i + 1] - 1] == s->stop[0];
    return 0;
}

static int rollout(Stage *s, Run *run, Episodes *e) {
    const Config *c = &run->cfg;
    char name[64];
    snprintf(name, sizeof name, "iteration_%06" PRId64 ".jsonl", run->step);
    if (c->ppo_replay[0]) {
        char *path = file_join(c->ppo_replay, name);
        const GptConfig *g = &s->policy.gpt->cfg;
        int rc = rollout_read(e, path, c->ppo_batch, g->vocab, g->context);
        free(path);
        return rc;
    }
    const int64_t first = run->step * c->ppo_batch;
    for (int64_t i = 0; i < c->ppo_batch; i++)
        s->item[i] = order_stream((uint64_t)c->run_seed, first + i, s->prompts.n);
    s->decode.step = (uint32_t)run->step;
    TRY(sample(s, &s->prompts, s->item, c->ppo_batch, (uint64_t)first, &s->decode, e));
    if (!c->ppo_save_rollouts || run->dry) return 0;
    int rc = 0;
    if (run->main_rank) {
        char *dir = file_join(c->run_dir, "rollouts"), *path = file_join(dir, name);
        rc = file_make_dirs(dir);
        if (rc == 0) rc = rollout_write(e, path);
        free(path);
        free(dir);
    }
    return comm_agree(run->comm, rc);
}

static void print_sample(const Stage *s, Run *run, const Episodes *e, int64_t i) {
    const int32_t *t = e->tokens + e->start[i];
    char *prompt, *response;
    if (tokenizer_decode(s->policy.tokenizer, t, e->prompt[i], false, &prompt, NULL) < 0) return;
    if (tokenizer_decode(s->policy.tokenizer, t + e->prompt[i], rollout_length(e, i), false,
                         &response, NULL) >= 0) {
        run_text(run, "--- iteration %" PRId64 ", score %.3f\n%s[%s]\n", run->step + 1,
                 (double)e->score[i], prompt, response);
        free(response);
    }
    free(prompt);
}

/* Mean score of the model that will be saved (the average, if there is one) on held-out prompts. */
static int evaluate(Stage *s, Run *run) {
    if (s->heldout.n == 0) return 0;
    Ppo *p = &s->ppo;
    int64_t n = run->cfg.eval_records > 0 && run->cfg.eval_records < s->heldout.n
                    ? run->cfg.eval_records
                    : s->heldout.n;
    int64_t *item = xmalloc((size_t)n * sizeof *item);
    for (int64_t i = 0; i < n; i++) item[i] = i;
    DecodeOptions o = s->decode;
    o.step = UINT32_MAX; /* the same random numbers in every evaluation */
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    Episodes e = {0};
    int rc = sample(s, &s->heldout, item, n, 0, &o, &e);
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    free(item);
    TRY(rc);
    watchdog_enter(PHASE_EVAL);
    Sequence *q = xmalloc((size_t)n * sizeof *q);
    for (int64_t i = 0; i < n; i++)
        q[i] = (Sequence){.tokens = e.tokens + e.start[i], .n = e.start[i + 1] - e.start[i]};
    score_samples(p->reward, q, e.stopped, n, p->o.micro_tokens, p->o.no_stop_score, e.score);
    double score = 0, stopped = 0;
    for (int64_t i = 0; i < n; i++) {
        score += (double)e.score[i] / (double)n;
        stopped += e.stopped[i] / (double)n;
    }
    run_metric(run, "eval/score", score);
    run_metric(run, "eval/length", (double)e.first[n] / (double)n);
    run_metric(run, "eval/stopped", stopped);
    run_eval_result(run, -score);
    for (int64_t i = 0; i < n && i < 4; i++) print_sample(s, run, &e, i);
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out score %.4f, %.1f tokens, %.1f %% stopped",
                 run->step + 1, score, (double)e.first[n] / (double)n, 100 * stopped);
    free(q);
    rollout_free(&e);
    return 0;
}

/* Samples whose log-probabilities are not the training forward's are not the policy's: reported
 * once. */
static void watch_decode_gap(Stage *s, const Run *run, double gap) {
    if (gap <= PPO_DECODE_GAP || s->gap_reported || !run->main_rank) return;
    s->gap_reported = true;
    log_warn("iteration %" PRId64 ": the sampler's log-probabilities differ from the training "
             "forward's by up to %.1e (rollout/decode_gap_max), expected at most %.0e: the samples "
             "are not quite the policy's; rhetor-ppo --selftest checks this machine",
             run->step + 1, gap, PPO_DECODE_GAP);
}

/* All scores are the same then, and there is nothing to learn from: reported once. */
static void watch_stops(Stage *s, const Run *run, double stopped) {
    if (stopped > 0 || s->no_stop_reported || !run->main_rank) return;
    s->no_stop_reported = true;
    log_warn("iteration %" PRId64 ": none of the %" PRId64 " responses ended with the stop token, "
             "so each scores ppo.no_stop_score (%g) whatever it says; a longer SFT or a larger "
             "ppo.max_response (%" PRId64 ") may help",
             run->step + 1, run->cfg.ppo_batch, run->cfg.ppo_no_stop_score,
             run->cfg.ppo_max_response);
}

static void report(Stage *stage, Run *run, const Episodes *e, const PpoStats *s, double lr) {
    run_metric(run, "objective/kl", s->kl);
    run_metric(run, "objective/kl_k3", s->kl3);
    run_metric(run, "objective/entropy", s->neg_logp);
    run_metric(run, "objective/scores", s->score);
    run_metric(run, "objective/scores_std", s->score_std);
    run_metric(run, "objective/rlhf_reward", s->rlhf_reward);
    run_metric(run, "objective/non_score_reward", s->non_score_reward);
    run_metric(run, "objective/beta", s->beta);
    run_metric(run, "policy/entropy_avg", s->entropy);
    run_metric(run, "policy/approxkl_avg", s->approxkl);
    run_metric(run, "policy/clipfrac_avg", s->clipfrac);
    run_metric(run, "loss/policy_avg", s->policy_loss);
    run_metric(run, "loss/value_avg", s->value_loss);
    run_metric(run, "loss/ptx_avg", s->ptx_loss);
    run_metric(run, "val/clipfrac_avg", s->value_clipfrac);
    run_metric(run, "val/ratio", s->ratio);
    run_metric(run, "val/ratio_var", s->ratio_var);
    run_metric(run, "val/explained_variance", s->explained);
    run_metric(run, "val/num_eos_tokens", s->stopped * (double)run->cfg.ppo_batch);
    run_metric(run, "val/first_ratio_gap", s->first_ratio_gap);
    run_metric(run, "rollout/length", s->length);
    run_metric(run, "rollout/decode_gap_max", s->decode_gap);
    run_metric(run, "grad_norm/policy", s->policy_norm);
    run_metric(run, "grad_norm/critic", s->critic_norm);
    run_metric(run, "lr", lr);
    run_metric(run, "eps", run->cfg.ppo_clip);
    run_metric(run, "episode", (double)((run->step + 1) * run->cfg.ppo_batch));
    run_headline(run, "score %.3f  kl %.2f  length %.1f  entropy %.2f  loss %.3f/%.3f", s->score,
                 s->kl, s->length, s->entropy, s->policy_loss, s->value_loss);
    watch_decode_gap(stage, run, s->decode_gap);
    watch_stops(stage, run, s->stopped);
    if (run->step % run->cfg.run_log_every == 0) print_sample(stage, run, e, 0);
}

/* --- the stage -------------------------------------------------------------------------------- */

static int iterate(Stage *s, Run *run, double lr, double critic_lr, Episodes *e, PpoStats *stats) {
    Ppo *p = &s->ppo;
    TRY(rollout(s, run, e));
    iteration_score(p, e, run->step);
    iteration_advantages(p, e, stats);
    const double waited = windows_waited(&p->ptx);
    TRY(iteration_update(p, e, run->step, lr, critic_lr, stats));
    if (p->ptx.corpus) run_timing(run, "data/wait_s", windows_waited(&p->ptx) - waited);
    return 0;
}

static int dry_run(Stage *s, Run *run) {
    Ppo *p = &s->ppo;
    Episodes e = {0};
    PpoStats stats = {0};
    const double began = clock_seconds();
    TRY(iterate(s, run, 0, 0, &e, &stats)); /* learning rate 0 */
    const ParamSet *a = &s->policy.gpt->params, *b = &s->critic->params;
    const double tokens = (double)e.start[e.n];
    PlanWork work = plan_work(&run->cfg);
    work.model = s->policy.cfg;
    work.length = tokens / (double)e.n;
    work.response = (double)e.first[e.n] / (double)e.n;
    work.window = (double)s->policy.cfg.context;
    run_plan(run, "PPO", clock_seconds() - began, a->count + b->count, tokens,
             plan_flops(&work, NULL),
             trainer_bytes(&p->policy) + trainer_bytes(&p->critic) +
                 (size_t)(2 * a->size + b->size) * sizeof(real),
             p->policy.arena.high + p->critic.arena.high);
    printf("  an episode:\n");
    char *text;
    TRY(tokenizer_decode(s->policy.tokenizer, e.tokens, e.start[1], false, &text, NULL));
    printf("%s\n", text);
    free(text);
    rollout_free(&e);
    return 0;
}

static int train(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    Ppo *p = &s->ppo;
    if (run->dry) return dry_run(s, run);
    TRY(run_resume(run));
    if (!p->kl.adaptive) p->kl.beta = c->ppo_beta; /* settings come from the config */
    if (run->main_rank)
        log_info("%" PRId64 " prompt%s (%" PRId64 " too long, %" PRId64 " bad), %" PRId64
                 " iteration%s of %" PRId64 " episode%s",
                 s->prompts.n, TEXT_S(s->prompts.n), s->prompts.too_long, s->prompts.bad,
                 run->steps, TEXT_S(run->steps), c->ppo_batch, TEXT_S(c->ppo_batch));

    const Schedule schedule = trainer_schedule(run);
    Schedule critic_schedule = schedule;
    if (c->ppo_critic_lr > 0) critic_schedule.peak = c->ppo_critic_lr;
    while (run_goes_on(run)) {
        const double lr = schedule_lr(&schedule, run->step);
        Episodes e = {0};
        PpoStats stats = {0};
        const int rc = iterate(s, run, lr, schedule_lr(&critic_schedule, run->step), &e, &stats);
        const int64_t tokens = rc == 0 ? e.start[e.n] : 0;
        if (rc == 0) report(s, run, &e, &stats, lr);
        rollout_free(&e);
        TRY(rc);
        if (run_eval_due(run)) TRY(evaluate(s, run));
        TRY(run_step_end(run, tokens));
    }
    return 0;
}

static int ppo(Run *run) {
    if (run->selftest) return selftest_run(run);
    if (run->cfg.data_train.n == 0 && !run->cfg.ppo_replay[0])
        return config_bad(&run->cfg, "data.train", "no prompts are given");
    Stage s = {0};
    int rc = open_all(&s, run);
    if (rc == 0) rc = train(&s, run);
    trainer_close(&s.ppo.policy);
    trainer_close(&s.ppo.critic);
    ema_free(&s.ppo.ema);
    windows_close(&s.ppo.ptx);
    if (run->dry) comm_close(&s.ppo.comm);
    free(s.item);
    dataset_free(&s.prompts);
    dataset_free(&s.heldout);
    load_free(&s.policy);
    load_free(&s.reward);
    gpt_close(&s.reference);
    gpt_close(&s.critic);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_PPO, ppo); }
