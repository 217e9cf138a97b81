#!/bin/bash
# rhetor-grpo: the same bits on 1, 2 and 4 ranks, in micro-batches of any size and after stops; rewards
# by rules, by the gold program, by a command, in rhetor-ppo, too; what it says of groups that teach
# nothing; --dry-run and rhetor-plan; wrong settings.
. "$(dirname "$0")/lib.sh"
export RUN=. SEED=1
tiny_data 512 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 40 --compare-heldout 10 --ppo 60 --eval 10
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" train.steps=60
must "$bin/rhetor-sft" "$tiny/sft.yaml" train.steps=20 save.every_epoch=false
tiny_ranked sft
must "$bin/rhetor-reward" "$tiny/reward.yaml" train.steps=2
settings=(run.tensorboard=false from.model=sft data.heldout=data/eval_prompts.jsonl eval.records=8
    ppo.episodes=96 ppo.batch=32 ppo.max_response=8 eval.every=2)

# reproduces SETTING...: on any layout
reproduces() {
    rm -rf one two four moved
    stage grpo 1 one "$@"
    stage grpo 2 two train.micro_tokens=150 run.threads=2 "$@"
    stage grpo 4 four dist.shard=optimizer train.recompute=true "$@"
    leaves=75
    for ranks in 2 1; do stage grpo $ranks moved run.deadline=1e-6 "$@"; done
    leaves=0
    stage grpo 4 moved "$@"
    [ "$(grep -c 'resuming at step' moved/log.txt)" = 2 ] || fail "moved did not resume twice"
    for dir in two four moved; do same_run one $dir; done
}
reproduces
for key in objective/kl objective/scores policy/approxkl_avg policy/clipfrac_avg loss/policy_avg loss/kl_avg \
    groups/sampled groups/without_signal eval/score; do
    [ "$(curve one "$key" | wc -l)" -ge 1 ] || fail "metrics.jsonl has no $key"
done
[ "$(curve one val/first_ratio_gap | sort -u)" = 0 ] || fail "the first ratio is not 1"

# RLOO from a program alone; its lines may be read as they come or at the end.
cat >judge.sh <<'END'
while read -r line; do
    case $line in *'"record":{'*'"gold":'*) ;; *) exit 1 ;; esac
    echo $((${#line} % 5))
done
END
rloo=(from.reward= reward.match=0 reward.length=0 reward.program=1.5 "reward.command=bash judge.sh" ppo.no_stop_score=-3 ppo.stop=. ppo.max_response=24
    grpo.baseline=loo grpo.scale=none grpo.aggregate=constant grpo.kl=reward grpo.resample=0)
reproduces "${rloo[@]}"
curve one objective/scores_std | awk '$1 > 0.5 {found = 1} END {exit !found}' || fail "the program's scores: $(curve one objective/scores)"
# GSPO, Dr. GRPO, DAPO
stage grpo 1 gspo grpo.ratio=sequence ppo.clip=0.01
stage grpo 1 dr grpo.scale=none grpo.aggregate=constant ppo.beta=0
stage grpo 1 dapo grpo.aggregate=token ppo.clip=0.2 grpo.clip_high=0.28 ppo.beta=0 ppo.ema=0

# A program that dies, that is late, that says too little or no number.
echo 'n=0; while read -r line; do n=$((n + 1)); [ $n -lt 7 ] || [ -f died ] || { touch died; exit 1; }; echo 1; done' >dies.sh
stage grpo 1 dies "${rloo[@]}" "reward.command=sh dies.sh" ppo.no_stop_score=0
grep -q "sh dies.sh: ended; it is started again" dies.out || fail "it did not die: $(cat dies.out)"
grpo=("$bin/rhetor-grpo" "$tiny/grpo.yaml" run.dir=out "${settings[@]}")
expect 74 "cat >/dev/null: did not answer in time, 3 times in a row" -- "${grpo[@]}" "${rloo[@]}" "reward.command=cat >/dev/null" reward.seconds=0.3
rm -rf out
expect 74 "exit 3: ended, 3 times in a row" -- "${grpo[@]}" "${rloo[@]}" "reward.command=exit 3"
rm -rf out
expect 65 "line 1 is \"good\", expected a number" -- "${grpo[@]}" "${rloo[@]}" "reward.command=while read -r x; do echo good; done"
rm -rf out
# Another version of the program is another run.
echo '# changed' >>judge.sh
expect 78 "reward_program" -- "${grpo[@]}" "${rloo[@]}" run.dir=one ppo.episodes=128

# Gold; PPO with a rule beside its reward model.
stage grpo 1 gold from.reward= reward.gold=1 reward.match=0 reward.length=0
stage ppo 1 ppo data.mix= ptx.coef=0 reward.model=0.5 reward.match=1 reward.pattern=e reward.length=-1 ppo.minibatches=2
stage ppo 2 ppo-2 data.mix= ptx.coef=0 reward.model=0.5 reward.match=1 reward.pattern=e reward.length=-1 ppo.minibatches=2
same_run ppo ppo-2

# Nothing to learn from: said, and no update.
stage grpo 1 silent from.reward= reward.match=1 reward.length=0 "reward.pattern=no such text" ppo.no_stop_score=0 ppo.ema=0
grep -q "all have the same score, so there is nothing to learn" silent.out || fail "silent: $(cat silent.out)"
[ "$(curve silent grad_norm/policy | sort -u)" = 0 ] || fail "an update without a signal"
expect 1 "params/wte.weight" -- "$bin/rhetor-ckpt" diff gold silent
! "$bin/rhetor-ckpt" diff sft silent | grep -q 'params/' || fail "other weights without an update"

# The plan is what the dry run finds.
cat >rates.json <<'END'
{"origin": "made up", "rates": [{"threads": 1, "train_gflops": 50, "micro_gbs": 10, "forward_gflops": 60,
 "update_gbs": 20, "decode_gbs": 12, "decode_gflops": 80}]}
END
whole=("${rloo[@]}" ppo.batch=64 ppo.minibatches=1 run.threads=1 dist.reproducible=false)
must "$bin/rhetor-grpo" "$tiny/grpo.yaml" --dry-run "${settings[@]}" "${whole[@]}"
grep -q "groups have scores that differ" must.out || fail "--dry-run: $(cat must.out)"
dry=$(sed -n 's/.*weights, gradients, moments \([0-9.]*\), activations \([0-9.]*\),.*/\1 \2/p' must.out)
response=$(awk '/tokens a step/ {print $4 / 64 - prompt}' prompt="$(sed -n 's/^\([0-9]*\) prompts (\([0-9]*\) tokens.*/\2 \1/p' one.out | awk '{print $1 / $2}')" must.out)
must "$bin/rhetor-plan" --rates rates.json --response "$response" --cores 1 --memory 8 "$tiny/grpo.yaml" --json "${settings[@]}" "${whole[@]}"
for key in activations weights gradients moments frozen; do
    sed -n "s/^ *\"$key\": \([0-9][0-9.]*\).*/\1/p" must.out | head -n 1
done | tr '\n' ' ' | awk -v dry="$dry" '{
    split(dry, d, " "); a = d[2] * 1048576 / $1 - 1; s = d[1] * 1048576 / ($2 + $3 + $4 + $5) - 1
    print "activations, state off by", a, s
    exit !(NF == 5 && a * a < 0.05 ^ 2 && s * s < 0.05 ^ 2)}' >off.txt || fail "$(cat off.txt): --dry-run says $dry MiB: $(cat must.out)"

# What does not fit together is refused.
expect 78 "ppo.batch is 30: expected a multiple of grpo.samples, the 4" -- "${grpo[@]}" ppo.batch=30
expect 78 "nothing says what a response is worth" -- "${grpo[@]}" from.reward= reward.match=0 reward.length=0
expect 78 "reward.program needs a command" -- "${grpo[@]}" reward.program=1
expect 78 "is no regular expression: end pattern with unmatched parenthesis" -- "${grpo[@]}" "reward.pattern=(a"
expect 78 "grpo.samples is 1" -- "${grpo[@]}" grpo.samples=1
expect 65 "data/ppo_prompts.jsonl:1: no string \"answer\"" -- "${grpo[@]}" reward.number=1
expect 78 "rollouts that are kept or replayed have one round" -- "${grpo[@]}" ppo.save_rollouts=true
expect 78 "ppo.whiten is a setting of ppo, not of grpo" -- "${grpo[@]}" ppo.whiten=false
