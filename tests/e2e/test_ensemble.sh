#!/bin/bash
# from.ensemble and ppo.critic: the ensemble's score from those of its models one by one, the same bits on
# any number of ranks and after stops, in PPO and GRPO; a critic of random weights.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
must "$bin/rhetor-pipeline" "$tiny" --run run --until pick
settings=(run.tensorboard=false)
stage reward 1 other run.seed=2 reward.layers=1 # a smaller one
settings+=(ppo.max_response=24 eval.prompts=run/data/eval_prompts.jsonl eval.records=20)
ensemble=(from.ensemble=other)

# --- the models of the first iteration answer the same: at learning rate 0 the proxies of A and B say what
# those of their ensembles are
still=(optim.lr=0 ppo.critic_lr=1e-9 ptx.coef=0 ppo.episodes=64)
stage ppo 1 a "${still[@]}"
stage ppo 1 b "${still[@]}" from.reward=other
stage ppo 1 mean "${still[@]}" "${ensemble[@]}"
stage ppo 1 worst "${still[@]}" "${ensemble[@]}" reward.ensemble=worst
stage ppo 1 sure "${still[@]}" "${ensemble[@]}" reward.ensemble=uncertainty reward.spread=0
stage ppo 1 first "${still[@]}" "${ensemble[@]}" reward.ensemble=first
for key in gold/proxy objective/scores; do
    echo "$(curve a $key) $(curve b $key) $(curve mean $key) $(curve worst $key) $(curve sure $key) $(curve first $key)" | awk '
        function far(x, y) { return (x - y)^2 > 1e-10 }
        { low = $1 < $2 ? $1 : $2
          exit NF != 6 || !far($1, $2) || far($3, ($1 + $2) / 2) || $4 > low + 1e-6 || $4 >= $3 || far($5, $3) || far($6, $1) }' ||
        fail "$key: $(curve a $key), $(curve b $key), mean $(curve mean $key), worst $(curve worst $key), $(curve sure $key), first $(curve first $key)"
done
[ "$(curve a gold/proxy)" != "$(curve a objective/scores)" ] || fail "one number twice"
grep -q '"objective/scores_spread"' mean/metrics.jsonl && ! grep -q '"objective/scores_spread"' first/metrics.jsonl || fail "the spread"
grep -q 'reward.2' <("$bin/rhetor-ckpt" show mean) || fail "the lineage: $("$bin/rhetor-ckpt" show mean)"

# --- a model beside itself changes nothing; another one does
stage ppo 1 plain
stage ppo 1 twice from.ensemble=run/reward
stage ppo 1 watched "${ensemble[@]}" reward.ensemble=first
stage ppo 1 one "${ensemble[@]}" reward.ensemble=worst eval.every=1
identical plain twice
identical plain watched
expect 1 "differ" -- "$bin/rhetor-ckpt" diff plain one

# --- any layout, and after stops
stage ppo 2 two "${ensemble[@]}" reward.ensemble=worst eval.every=1
for key in objective/scores objective/scores_spread gold/proxy gold/others gold/spread; do near $key 0.1 2 one two; done
leaves=75 stage ppo 1 moved "${ensemble[@]}" reward.ensemble=worst eval.every=1 run.deadline=1e-6
stage ppo 1 moved "${ensemble[@]}" reward.ensemble=worst eval.every=1
grep -q 'resuming at step 1' moved/log.txt || fail "moved did not resume"
same_run one moved
settings=(run.tensorboard=false ppo.max_response=24)
stage grpo 1 group "${ensemble[@]}" reward.ensemble=uncertainty
leaves=75 stage grpo 2 group2 "${ensemble[@]}" reward.ensemble=uncertainty run.deadline=1e-6
stage grpo 2 group2 "${ensemble[@]}" reward.ensemble=uncertainty
same_run group group2
[ "$(curve group objective/scores_spread | wc -l)" = 2 ] || fail "GRPO's spread"

# --- a random critic: what the policy samples first is the same, what it learns is not
stage ppo 1 random ppo.critic=random
leaves=75 stage ppo 1 again ppo.critic=random run.deadline=1e-6
stage ppo 1 again ppo.critic=random
same_run random again
[ "$(curve random objective/scores | head -n 1)" = "$(curve plain objective/scores | head -n 1)" ] || fail "other samples"
expect 1 "differ" -- "$bin/rhetor-ckpt" diff plain random
stage ppo 1 other_seed ppo.critic=random run.seed=2 ppo.episodes=64

# --- wrong settings; --dry-run and rhetor-plan count the models
ppo=("$bin/rhetor-ppo" "$tiny/ppo.yaml" run.dir=none "${settings[@]}")
expect 78 "from.ensemble: " "is a language model" -- "${ppo[@]}" from.ensemble=run/sft
expect 78 "the first model of an ensemble is from.reward" -- "$bin/rhetor-grpo" "$tiny/grpo.yaml" run.dir=none from.reward= from.ensemble=other
expect 78 "reward.ensemble" "names no reward model beside from.reward" -- "${ppo[@]}" reward.ensemble=worst
expect 78 "ppo.critic" "lora.rank" -- "${ppo[@]}" lora.rank=2 ppo.critic=random
expect 78 "reward.ensemble" "mean, worst, uncertainty, first" -- "${ppo[@]}" reward.ensemble=best
expect 0 "an episode" -- "${ppo[@]}" "${ensemble[@]}" --dry-run
expect 0 -- "$bin/rhetor-plan" "$tiny" ppo:from.ensemble=other
exit 0
