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
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "rlhf/actor.h"
#include "rlhf/ensemble.h"
#include "rlhf/gold_curve.h"
#include "rlhf/iteration.h"
#include "rlhf/rewards.h"
#include "rlhf/score.h"
#include "rlhf/selftest.h"

typedef struct Stage {
    Loaded policy, reward;
    Gpt *reference, *critic; /* begin as those */
    Ensemble more;           /* reward models beside the first */
    Dataset prompts, heldout;
    GoldCurve gold;
    Actor actor;
    Rewards rewards;
    Ppo ppo;
    PlanWork plan;
} Stage;

/* --- opening ---------------------------------------------------------------------------------- */

static int open_models(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    Loaded *policy = &s->policy;
    TRY(opening_parent(run, policy, "from.model", LOAD_LANGUAGE));
    TRY(opening_parent(run, &s->reward, "from.reward", LOAD_REWARD));
    TRY(load_same_tokenizer(policy, &s->reward));
    if (s->reward.cfg.context < policy->cfg.context)
        return config_bad(c, "from.reward",
                          "the reward model's context of %" PRId64
                          " is shorter than the policy's %" PRId64,
                          s->reward.cfg.context, policy->cfg.context);
    TRY(ensemble_open(&s->more, run, policy));
    return actor_stop(policy, run);
}

static int open_data(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    const GptConfig *g = &s->policy.cfg;
    if (c->ppo_max_response >= g->context)
        return config_bad(c, "ppo.max_response",
                          "leaves no room for a prompt in the context of %" PRId64, g->context);
    if (!c->ppo_replay[0] || c->data_train.n > 0)
        TRY(opening_records(run, &s->policy, DATASET_PROMPTS, c->ppo_max_response, &s->prompts,
                            &s->heldout));
    TRY(gold_curve_open(&s->gold, run, &s->policy));
    s->plan = iteration_plan(c, g);
    s->plan.one_base = load_is_on(&s->reward, &s->policy);
    plan_records(&s->plan, &s->prompts);
    s->plan.length += s->plan.response;
    if (c->ptx_coef > 0) TRY(opening_text(run, &s->policy, "ptx.coef", &s->ppo.ptx, &s->plan));
    return memory_check(run, &s->plan);
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

/* The policy's base is the reference; where the reward model is adapters on the same weights, it is
 * that one's and the critic's base too. */
static int open_adapters(Stage *s, Run *run, const LoraConfig *o) {
    const uint64_t seed = (uint64_t)run->cfg.run_seed;
    if (run->cfg.ppo_critic == CRITIC_RANDOM)
        return config_bad(&run->cfg, "ppo.critic",
                          "with lora.rank the critic is adapters on the reward model's weights");
    run_adapters(run, o, s->policy.path, s->policy.id);
    TRY(load_with_adapters(&s->policy, o, seed));
    s->reference = s->policy.base;
    TRY(ensemble_weights(&s->more, &s->policy, s->reference));
    if (load_is_on(&s->reward, &s->policy)) {
        TRY(load_adapters(&s->reward, s->reference, &s->reward.gpt, false));
        TRY(lora_open(&s->critic, s->reference, &s->reward.lora, true, true));
        return gpt_copy(s->critic, s->reward.gpt);
    }
    TRY(load_weights(&s->reward, false));
    TRY(lora_open(&s->critic, s->reward.gpt, o, true, true));
    lora_init(s->critic, seed + 1);
    return 0;
}

static int open_weights(Stage *s, Run *run) {
    const LoraConfig o = lora_of_config(&run->cfg);
    if (o.rank > 0) return open_adapters(s, run, &o);
    TRY(load_weights(&s->policy, true));
    TRY(load_weights(&s->reward, false));
    TRY(iteration_reference(&s->policy, &s->reference));
    TRY(ensemble_weights(&s->more, &s->policy, NULL));
    TRY(gpt_open(&s->critic, &s->reward.cfg, true));
    if (run->cfg.ppo_critic == CRITIC_REWARD) return gpt_copy(s->critic, s->reward.gpt);
    gpt_init(s->critic, (uint64_t)run->cfg.run_seed + 1,
             INIT_FAN_IN); /* narrow models learn, too */
    return 0;
}

static int open_all(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    Ppo *p = &s->ppo;
    TRY(iteration_options(c, &p->o, &p->kl));
    TRY(open_models(s, run));
    TRY(open_data(s, run));
    TRY(open_weights(s, run));
    p->reference = s->reference;
    p->reward = s->reward.gpt;
    p->comm = run->comm;
    if (run->dry) TRY(comm_open_alone(&p->comm)); /* it plays all episodes */
    trainer_open(&p->policy, s->policy.gpt, run, "");
    trainer_open(&p->critic, s->critic, run, "critic/");
    if (c->ppo_ema > 0) {
        ema_init(&p->ema, &s->policy.gpt->params, c->ppo_ema);
        run_keep_params(run, "ema", &s->policy.gpt->params, p->ema.w);
    }
    run_keep_f64(run, "kl_beta", &p->kl.beta);
    run_describe(run, &s->policy.cfg, s->policy.tokenizer, s->policy.tmpl,
                 c->ppo_ema > 0 ? "ema" : "params");
    s->actor = actor_of(&s->policy, &s->prompts, run, &p->policy.arena, p->comm);
    run->steps = plan_steps(c, 0);
    watch_settings(run);
    return rewards_open(&s->rewards, run, &s->policy, &s->prompts, &s->heldout);
}

/* --- the report ------------------------------------------------------------------------------- */

static int score(void *stage, Episodes *e) {
    Stage *s = stage;
    const Ppo *p = &s->ppo;
    AUTOFREE Sequence *q = xmalloc((size_t)(e->n + 1) * sizeof *q);
    for (int64_t i = 0; i < e->n; i++)
        q[i] = (Sequence){.tokens = e->tokens + e->start[i], .n = e->start[i + 1] - e->start[i]};
    score_samples(p->reward, q, e->stopped, e->n, p->o.micro_tokens, p->o.no_stop_score, e->score);
    ensemble_join(&s->more, q, e->stopped, e->n, p->comm, e->score);
    rewards_weigh(&s->rewards, e);
    return rewards_add(&s->rewards, &s->rewards.heldout, e, p->comm);
}

/* Of the model that will be saved: the average, if there is one. */
static int evaluate(Stage *s, Run *run) {
    Ppo *p = &s->ppo;
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    int rc = actor_evaluate(&s->actor, run, &s->heldout, score, s);
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    return rc;
}

static int measure_gold(Stage *s, Run *run) {
    Ppo *p = &s->ppo;
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    const int rc = gold_curve_measure(&s->gold, &s->actor, run, p->reference, p->reward, &s->more,
                                      p->o.no_stop_score);
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    return rc;
}

static void report(Stage *stage, Run *run, const Episodes *e, const PpoStats *s, double lr) {
    iteration_report(&stage->ppo, run, s);
    if (ensemble_rewards(&stage->more))
        run_metric(run, "objective/scores_spread", stage->more.spread);
    run_metric(run, "lr", lr);
    run_metric(run, "eps", run->cfg.ppo_clip);
    run_metric(run, "episode", (double)((run->step + 1) * run->cfg.ppo_batch));
    run_headline(run, "score %.3f  kl %.2f  length %.1f  entropy %.2f  loss %.3f/%.3f", s->score,
                 s->kl, s->length, s->entropy, s->policy_loss, s->value_loss);
    iteration_watch(&stage->ppo, run, s);
    if (run->step % run->cfg.run_log_every == 0) actor_show(&stage->actor, run, e, 0);
}

/* --- the stage -------------------------------------------------------------------------------- */

static int iterate(Stage *s, Run *run, double lr, double critic_lr, Episodes *e, PpoStats *stats) {
    Ppo *p = &s->ppo;
    TRY(actor_episodes(&s->actor, run, p->o.batch, e));
    iteration_score(p, e, run->step);
    ensemble_episodes(&s->more, e, p->comm);
    rewards_weigh(&s->rewards, e);
    TRY(rewards_add(&s->rewards, &s->rewards.prompts, e, p->comm));
    iteration_advantages(p, e, stats);
    return iteration_update(p, e, run->step, lr, critic_lr, stats);
}

static int dry_run(Stage *s, Run *run) {
    Ppo *p = &s->ppo;
    PlanWork *w = &s->plan;
    Episodes e = {0};
    PpoStats stats = {0};
    const double began = clock_seconds();
    TRY(iterate(s, run, 0, 0, &e, &stats)); /* learning rate 0 */
    w->length = (double)e.start[e.n] / (double)e.n;
    w->response = (double)e.first[e.n] / (double)e.n;
    run_plan(run, clock_seconds() - began, plan_parameters(w), (double)e.start[e.n],
             plan_flops(w, NULL),
             trainer_bytes(&p->policy) + trainer_bytes(&p->critic) +
                 paramset_bytes(&s->reference->params) + paramset_bytes(&s->reward.gpt->params) +
                 (p->ema.decay > 0 ? paramset_bytes(&s->policy.gpt->params) : 0) +
                 ensemble_bytes(&s->more),
             p->policy.arena.high + p->critic.arena.high);
    AUTOFREE char *text = NULL;
    TRY(tokenizer_decode(s->policy.tokenizer, e.tokens, e.start[1], false, &text, NULL));
    printf("  an episode:\n%s\n", text);
    rollout_free(&e);
    return 0;
}

static int train(Stage *s, Run *run) {
    const Config *c = &run->cfg;
    Ppo *p = &s->ppo;
    TRY(run_resume(run));
    if (!p->kl.adaptive) p->kl.beta = c->ppo_beta; /* settings come from the config */
    opening_report(run, &s->prompts, c->ppo_batch);
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
        windows_report(&p->ptx, run);
        if (s->heldout.n > 0 && run_eval_due(run)) TRY(evaluate(s, run));
        if (s->gold.prompts.n > 0 && run_eval_due(run)) TRY(measure_gold(s, run));
        TRY(run_step_end(run, tokens));
    }
    return 0;
}

static int ppo(Run *run) {
    if (run->selftest) return selftest_run(run);
    Stage s = {0};
    int rc = open_all(&s, run);
    if (rc == 0) rc = run->dry ? dry_run(&s, run) : train(&s, run);
    trainer_close(&s.ppo.policy);
    trainer_close(&s.ppo.critic);
    ema_free(&s.ppo.ema);
    windows_close(&s.ppo.ptx);
    rewards_close(&s.rewards);
    if (run->dry) comm_close(&s.ppo.comm);
    gold_curve_close(&s.gold);
    dataset_free(&s.prompts);
    dataset_free(&s.heldout);
    if (s.reference != s.policy.base) gpt_close(&s.reference);
    gpt_close(&s.critic);
    ensemble_close(&s.more);
    load_free(&s.reward); /* before the base that it may be on */
    load_free(&s.policy);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_PPO, ppo); }
