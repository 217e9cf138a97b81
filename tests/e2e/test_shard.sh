#!/bin/bash
# dist.shard in all four stages: optimizer has the bits of none, with and without dist.reproducible;
# gradients the same losses, and the same bits where a step is one micro-batch of each rank. A run
# saved on 4 ranks goes on on any number of them.
# timeout: 900
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

settings=(eval.every=0 save.every=0 run.tensorboard=false)

# compare NAME RANKS KEY STEPS SETTING...: the stage with each kind of sharding
compare() {
    local name=$1 ranks=$2 key=$3 steps=$4 n kind
    shift 4
    for n in $ranks; do
        for kind in none optimizer gradients; do
            stage "$name" $n "$name-$n-$kind" dist.shard=$kind dist.reproducible=false "$@"
        done
        same_run "$name-$n-none" "$name-$n-optimizer"
        near "$key" 1 "$steps" "$name-$n-none" "$name-$n-gradients"
    done
}

tiny_data 384 --seed 5 --documents 400 --documents-heldout 20 --sft 300 --sft-heldout 20 \
    --compare 60 --compare-heldout 10 --ppo 200 --eval 10

# 10 windows do not divide evenly: ranks make different numbers of passes.
pre=(model.width=32 train.steps=50 train.batch=10 train.micro_tokens=200)
compare pretrain "2 3" loss 50 "${pre[@]}" model.dropout=0.1
one=(train.steps=5 train.batch=8 dist.reproducible=false)
stage pretrain 2 one-none "${one[@]}"
stage pretrain 2 one-gradients "${one[@]}" dist.shard=gradients train.recompute=true
same_run one-none one-gradients
expect 78 "dist.reproducible=false" -- "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" dist.shard=gradients

stage sft 1 sft from.model=pretrain-2-none train.steps=50 train.batch=10 train.micro_tokens=200
compare sft 3 loss 50 from.model=pretrain-2-none train.steps=50 train.batch=10 train.micro_tokens=200

tiny_ranked sft
compare reward 2 loss 50 from.model=sft train.steps=50 train.batch=4 train.micro_tokens=200 optim.lr=3e-4

# Two models, a pretraining term, a moving average; 50 optimizer steps of replayed episodes.
ppo=(from.model=sft from.reward=reward-2-none ppo.batch=40 ppo.minibatches=5 train.micro_tokens=300 ppo.max_response=12)
stage ppo 1 ppo1 "${ppo[@]}" ppo.episodes=200 ppo.save_rollouts=true
compare ppo "2 3" loss/policy_avg 5 "${ppo[@]}" ppo.episodes=200 ppo.replay=ppo1/rollouts
for n in 2 3; do
    near loss/value_avg 1 5 ppo-$n-none ppo-$n-gradients
    near objective/kl 1 5 ppo-$n-none ppo-$n-gradients
done

# Saved on 4 ranks at step 25. With virtual ranks, the default, every layout has the same bits.
stage pretrain 4 four "${pre[@]}" dist.shard=optimizer save.every=25
for n in 1 2 3 4; do
    cp -r four four$n
    rm four$n/checkpoints/step_00000050.*
    stage pretrain $n four$n "${pre[@]}" dist.shard=optimizer
    same_run four four$n
done
cp -r four four-gradients
rm four-gradients/checkpoints/step_00000050.*
stage pretrain 2 four-gradients "${pre[@]}" dist.shard=gradients dist.reproducible=false
near loss 1 50 four four-gradients

# The plan and the peak of the run that follows it.
for kind in none optimizer gradients; do
    large=(model.layers=8 model.width=384 train.steps=2 train.batch=4 train.micro_tokens=128
        dist.shard=$kind dist.reproducible=false)
    plan=$("$bin/rhetor-pretrain" "$tiny/pretrain.yaml" "${large[@]}" --dry-run --ranks 2 |
        sed -nE 's,.*memory a rank +([0-9.]+) MiB.*,\1,p')
    stage pretrain 2 large-$kind "${large[@]}"
    peak=$(sed -nE 's,^done: .*at most ([0-9]+) MiB.*,\1,p' large-$kind.out)
    awk -v plan="$plan" -v peak="$peak" -v kind=$kind 'BEGIN {
        printf "%s: planned %.0f MiB, measured %.0f\n", kind, plan, peak
        exit !(plan > 0 && peak > 0 && plan < 1.05 * peak && peak < 1.05 * plan) }' ||
        fail "the plan of dist.shard=$kind"
done
