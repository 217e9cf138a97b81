#!/bin/bash
# eval.prompts: gold, KL, length and acts along PPO: they change no weights, are the same on any number
# of ranks, and those of rhetor-eval's gold program.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
must "$bin/rhetor-pipeline" "$tiny" --run run --until pick
gold=(eval.prompts=run/data/eval_prompts.jsonl eval.records=30)
stage ppo 1 plain
stage ppo 1 one "${gold[@]}" eval.every=1
stage ppo 2 two "${gold[@]}" eval.every=1
identical plain one
[ "$(curve one gold/score | wc -l)" = 2 ] || fail "gold at every step: $(cat one/metrics.jsonl)"
for key in gold/score gold/kl gold/tokens; do near $key 0.01 2 one two; done
! grep -q 'gold/' plain/metrics.jsonl || fail "gold without eval.prompts"
# what the answers do adds up
tail -n 1 one/metrics.jsonl | grep -oE '"gold/(right|partly|wrong|abstained|falsely_abstained|refused|over_refused|complied)": [0-9.]+' |
    awk '{sum += $2; n++} END {exit !(n == 8 && sum > 0.999999 && sum < 1.000001)}' || fail "acts: $(tail -n 1 one/metrics.jsonl)"
# at learning rate 0 the policy is the reference, and the table's mean is near that of as many answers
stage ppo 1 still eval.prompts=run/data/eval_prompts.jsonl optim.lr=0 ppo.critic_lr=1e-9 ptx.coef=0 ppo.episodes=64
kl=$(curve still gold/kl)
awk -v kl="$kl" 'BEGIN {exit !(kl * kl < 1e-8)}' || fail "KL of the reference itself: $kl"
must "$bin/rhetor-eval" compare -m sft=run/sft-picked --reward run/reward --prompts run/data/eval_prompts.jsonl --max-new 16 --json table.json
awk -v a="$(curve still gold/score)" -v b="$(grep -m1 '"score":' table.json | tr -dc '0-9.-')" \
    -v se="$(grep -m1 '"score_se":' table.json | tr -dc '0-9.-')" 'BEGIN {d = a - b; exit !(d * d < 36 * se * se)}' ||
    fail "gold of the SFT model: $(curve still gold/score), the table's: $(grep -A1 -m1 '"score":' table.json)"
# wrong input
sed -E 's/"gold":\{/"golden":\{/' run/data/eval_prompts.jsonl >none.jsonl
expect 65 "none.jsonl:1" -- "$bin/rhetor-ppo" "$tiny/ppo.yaml" run.dir=bad eval.prompts=none.jsonl
expect 78 "eval.prompts is a setting of" -- "$bin/rhetor-sft" "$tiny/sft.yaml" run.dir=bad eval.prompts=none.jsonl
exit 0
