/* rhetor-grpo: reinforcement learning without a critic. Several responses to a prompt are compared
 * with each other: GRPO (Shao 2024) with the variants of DAPO (Yu 2025), Dr. GRPO (Liu 2025) and
 * GSPO (Zheng 2025); RLOO (Ahmadian 2024).
 *
 * for each iteration:
 *     groups <- the policy's responses to some prompts                  actor_episodes
 *     what each is worth                                                judge, rewards.c
 *     groups whose scores are all equal say nothing and are left out;
 *     with grpo.resample others are sampled in their place              gather
 *     old and reference log-probabilities                               iteration_score
 *     advantages within each group                                      iteration_group_advantages
 *     inner epochs over minibatches: policy (+ ptx), EMA                iteration_update
 *
 * Iteration, rollout and settings are PPO's (ppo.*); the frozen reference begins as the policy. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dist/watchdog.h"
#include "rlhf/actor.h"
#include "rlhf/ensemble.h"
#include "rlhf/iteration.h"
#include "rlhf/rewards.h"
#include "rlhf/score.h"

typedef struct Grpo {
    Loaded policy, reward; /* reward.gpt NULL: no model is asked */
    Gpt *reference;        /* NULL: nobody asks how far the policy has gone */
    Ensemble more;         /* reward models beside that one */
    Dataset prompts, heldout;
    Actor actor;
    Rewards rewards;
    Ppo ppo;
    PlanWork plan;
    bool silence_reported;
} Grpo;

/* --- opening ---------------------------------------------------------------------------------- */

static int open_models(Grpo *s, Run *run) {
    const Config *c = &run->cfg;
    TRY(opening_parent(run, &s->policy, "from.model", LOAD_LANGUAGE));
    if (c->from_reward[0]) {
        TRY(opening_parent(run, &s->reward, "from.reward", LOAD_REWARD));
        TRY(load_same_tokenizer(&s->policy, &s->reward));
        if (s->reward.cfg.context < s->policy.cfg.context)
            return config_bad(c, "from.reward",
                              "the reward model's context of %" PRId64
                              " is shorter than the policy's %" PRId64,
                              s->reward.cfg.context, s->policy.cfg.context);
    } else if (!rewards_wanted(c)) {
        return config_bad(c, "from.reward",
                          "nothing says what a response is worth: neither a reward model nor one "
                          "of reward.gold, program, number, text, match, length");
    }
    TRY(ensemble_open(&s->more, run, &s->policy));
    return actor_stop(&s->policy, run);
}

static int open_data(Grpo *s, Run *run) {
    const Config *c = &run->cfg;
    if (c->ppo_max_response >= s->policy.cfg.context)
        return config_bad(c, "ppo.max_response",
                          "leaves no room for a prompt in the context of %" PRId64,
                          s->policy.cfg.context);
    if (c->grpo_resample > 0 && (c->ppo_replay[0] || c->ppo_save_rollouts))
        return config_bad(c, "grpo.resample",
                          "rollouts that are kept or replayed have one round an iteration");
    if (!c->ppo_replay[0] || c->data_train.n > 0)
        TRY(opening_records(run, &s->policy, DATASET_PROMPTS, c->ppo_max_response, &s->prompts,
                            &s->heldout));
    TRY(rewards_open(&s->rewards, run, &s->policy, &s->prompts, &s->heldout));
    s->plan = iteration_plan(c, &s->policy.cfg);
    s->plan.one_base = load_is_on(&s->reward, &s->policy);
    plan_records(&s->plan, &s->prompts);
    s->plan.length += s->plan.response;
    if (c->ptx_coef > 0) TRY(opening_text(run, &s->policy, "ptx.coef", &s->ppo.ptx, &s->plan));
    return memory_check(run, &s->plan);
}

/* The base of adapters is the reference, and the reward model's base where it has the same one. */
static int open_weights(Grpo *s, Run *run) {
    const Config *c = &run->cfg;
    if (c->lora_rank > 0)
        TRY(opening_weights(run, &s->policy));
    else
        TRY(load_weights(&s->policy, true));
    if (s->policy.base && c->from_reward[0] && load_is_on(&s->reward, &s->policy))
        TRY(load_adapters(&s->reward, s->policy.base, &s->reward.gpt, false));
    else if (c->from_reward[0])
        TRY(load_weights(&s->reward, false));
    TRY(ensemble_weights(&s->more, &s->policy, s->policy.base));
    if (c->ppo_beta > 0) return iteration_reference(&s->policy, &s->reference);
    return 0;
}

static int open_all(Grpo *s, Run *run) {
    const Config *c = &run->cfg;
    Ppo *p = &s->ppo;
    TRY(iteration_options(c, &p->o, &p->kl));
    TRY(open_models(s, run));
    TRY(open_data(s, run));
    TRY(open_weights(s, run));
    p->reference = s->reference;
    p->comm = run->comm;
    if (run->dry) TRY(comm_open_alone(&p->comm)); /* it plays all episodes */
    trainer_open(&p->policy, s->policy.gpt, run, "");
    if (c->ppo_ema > 0) {
        ema_init(&p->ema, &s->policy.gpt->params, c->ppo_ema);
        run_keep_params(run, "ema", &s->policy.gpt->params, p->ema.w);
    }
    run_describe(run, &s->policy.cfg, s->policy.tokenizer, s->policy.tmpl,
                 c->ppo_ema > 0 ? "ema" : "params");
    s->actor = actor_of(&s->policy, &s->prompts, run, &p->policy.arena, p->comm);
    s->actor.samples = p->o.samples;
    run_keep_i64(run, "rounds", &s->actor.rounds);
    run->steps = plan_steps(c, 0);
    return 0;
}

/* --- groups ----------------------------------------------------------------------------------- */

/* What the responses are worth. Collective. */
static int judge(Grpo *s, const RewardRecords *of, Episodes *e) {
    Ppo *p = &s->ppo;
    const int64_t n = e->n;
    watchdog_enter(PHASE_SCORE);
    if (s->reward.gpt) {
        AUTOFREE Sequence *q = xmalloc((size_t)(n + 1) * sizeof *q);
        for (int64_t i = 0; i < n; i++)
            q[i] =
                (Sequence){.tokens = e->tokens + e->start[i], .n = e->start[i + 1] - e->start[i]};
        score_shared(s->reward.gpt, q, n, p->o.micro_tokens, p->comm, e->score);
        ensemble_episodes(&s->more, e, p->comm);
        rewards_weigh(&s->rewards, e);
    }
    for (int64_t i = 0; i < n; i++)
        if (!e->stopped[i]) e->score[i] = (float)p->o.no_stop_score;
    return rewards_add(&s->rewards, of, e, p->comm);
}

/* Sums over all that was sampled, of the groups left out, too. */
typedef struct Sampled {
    double n, score, score2, stopped, groups, silent;
    int64_t tokens;
} Sampled;

/* The episodes of groups that have a signal, to pick[]; returns how many. */
static int64_t with_signal(const Episodes *e, int64_t K, int64_t *pick, Sampled *all) {
    int64_t n = 0;
    for (int64_t i = 0; i < e->n; i += K) {
        bool silent = true;
        for (int64_t j = i; j < i + K; j++) {
            silent &= e->score[j] == e->score[i];
            all->score += (double)e->score[j];
            all->score2 += (double)e->score[j] * (double)e->score[j];
            all->stopped += e->stopped[j];
        }
        for (int64_t j = i; j < i + K && !silent; j++) pick[n++] = j;
        all->groups += 1;
        all->silent += silent;
    }
    all->n += (double)e->n;
    all->tokens += e->start[e->n];
    return n;
}

/* The groups that the iteration learns from. Collective. */
static int gather(Grpo *s, Run *run, Episodes *e, Sampled *all) {
    const int64_t batch = s->ppo.o.batch, before = s->actor.rounds;
    AUTOFREE int64_t *pick = xmalloc((size_t)batch * sizeof *pick);
    for (int64_t round = 0; round <= run->cfg.grpo_resample && e->n < batch; round++) {
        Episodes some = {0};
        s->actor.rounds = before + round;
        int rc = actor_episodes(&s->actor, run, batch, &some);
        if (rc == 0) rc = judge(s, &s->rewards.prompts, &some);
        if (rc == 0) {
            const int64_t n = with_signal(&some, s->ppo.o.samples, pick, all);
            rollout_append(e, &some, pick, n < batch - e->n ? n : batch - e->n);
        }
        rollout_free(&some);
        TRY(rc);
    }
    return 0;
}

static int iterate(Grpo *s, Run *run, double lr, Episodes *e, Sampled *all, PpoStats *stats) {
    Ppo *p = &s->ppo;
    TRY(gather(s, run, e, all));
    if (e->n > 0) {
        iteration_score(p, e, run->step);
        iteration_group_advantages(p, e, stats);
        TRY(iteration_update(p, e, run->step, lr, 0, stats));
    }
    stats->score = all->score / all->n;
    stats->score_std = sqrt(fmax(all->score2 / all->n - stats->score * stats->score, 0));
    stats->rlhf_reward = stats->score + stats->non_score_reward;
    stats->stopped = all->stopped / all->n;
    stats->groups = all->groups;
    stats->without_signal = all->silent;
    return 0;
}

/* --- the report ------------------------------------------------------------------------------- */

static int score(void *stage, Episodes *e) {
    Grpo *s = stage;
    return judge(s, &s->rewards.heldout, e);
}

/* Of the model that will be saved: the average, if there is one. */
static int evaluate(Grpo *s, Run *run) {
    Ppo *p = &s->ppo;
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    int rc = actor_evaluate(&s->actor, run, &s->heldout, score, s);
    if (p->ema.decay > 0) ema_swap(&p->ema, &s->policy.gpt->params);
    return rc;
}

static void report(Grpo *g, Run *run, const Episodes *e, const PpoStats *s, double lr) {
    const double learned = s->groups - s->without_signal;
    iteration_report(&g->ppo, run, s);
    run_metric(run, "loss/kl_avg", s->kl_loss);
    run_metric(run, "groups/sampled", s->groups);
    run_metric(run, "groups/without_signal", s->without_signal);
    if (ensemble_rewards(&g->more)) run_metric(run, "objective/scores_spread", g->more.spread);
    run_metric(run, "lr", lr);
    run_metric(run, "eps", run->cfg.ppo_clip);
    run_metric(run, "episode", (double)((run->step + 1) * run->cfg.ppo_batch));
    run_headline(run, "score %.3f  kl %.2f  length %.1f  loss %.3f  groups %.0f of %.0f", s->score,
                 s->kl, s->length, s->policy_loss, learned, s->groups);
    iteration_watch(&g->ppo, run, s);
    if (learned == 0 && run->main_rank && !g->silence_reported) {
        g->silence_reported = true;
        log_warn("iteration %" PRId64 ": the %" PRId64 " responses to each prompt all have the "
                 "same score, so there is nothing to learn and no update was made; other prompts, "
                 "more grpo.samples or a higher ppo.temperature may help",
                 run->step + 1, run->cfg.grpo_samples);
    }
    if (e->n > 0 && run->step % run->cfg.run_log_every == 0) actor_show(&g->actor, run, e, 0);
}

/* --- the stage -------------------------------------------------------------------------------- */

static int dry_run(Grpo *s, Run *run) {
    Ppo *p = &s->ppo;
    PlanWork *w = &s->plan;
    Episodes e = {0};
    Sampled all = {0};
    PpoStats stats = {0};
    const double began = clock_seconds();
    TRY(iterate(s, run, 0, &e, &all, &stats)); /* learning rate 0 */
    if (e.n > 0) {
        w->length = (double)e.start[e.n] / (double)e.n;
        w->response = (double)e.first[e.n] / (double)e.n;
    }
    const Gpt *base = s->reference ? s->reference : s->policy.base;
    size_t frozen = base ? paramset_bytes(&base->params) : 0;
    if (p->ema.decay > 0) frozen += paramset_bytes(&s->policy.gpt->params);
    if (s->reward.gpt) frozen += paramset_bytes(&s->reward.gpt->params);
    run_plan(run, clock_seconds() - began, plan_parameters(w), (double)all.tokens,
             plan_flops(w, NULL), trainer_bytes(&p->policy) + frozen + ensemble_bytes(&s->more),
             p->policy.arena.high);
    printf("  %.0f of %.0f groups have scores that differ\n", all.groups - all.silent, all.groups);
    AUTOFREE char *text = NULL;
    if (e.n > 0)
        TRY(tokenizer_decode(s->policy.tokenizer, e.tokens, e.start[1], false, &text, NULL));
    if (e.n > 0) printf("  an episode:\n%s\n", text);
    rollout_free(&e);
    return 0;
}

static int train(Grpo *s, Run *run) {
    TRY(run_resume(run));
    opening_report(run, &s->prompts, run->cfg.ppo_batch);
    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        const double lr = schedule_lr(&schedule, run->step);
        Episodes e = {0};
        Sampled all = {0};
        PpoStats stats = {0};
        const int rc = iterate(s, run, lr, &e, &all, &stats);
        if (rc == 0) report(s, run, &e, &stats, lr);
        rollout_free(&e);
        TRY(rc);
        windows_report(&s->ppo.ptx, run);
        if (s->heldout.n > 0 && run_eval_due(run)) TRY(evaluate(s, run));
        TRY(run_step_end(run, all.tokens));
    }
    return 0;
}

static int grpo(Run *run) {
    Grpo s = {0};
    int rc = open_all(&s, run);
    if (rc == 0) rc = run->dry ? dry_run(&s, run) : train(&s, run);
    trainer_close(&s.ppo.policy);
    ema_free(&s.ppo.ema);
    windows_close(&s.ppo.ptx);
    rewards_close(&s.rewards);
    if (run->dry) comm_close(&s.ppo.comm);
    dataset_free(&s.prompts);
    dataset_free(&s.heldout);
    if (s.reference != s.policy.base) gpt_close(&s.reference);
    ensemble_close(&s.more); /* before the base that they may be on */
    load_free(&s.reward);
    load_free(&s.policy);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_GRPO, grpo); }
