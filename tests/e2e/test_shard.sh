#!/bin/bash
# dist.shard in all four stages: optimizer has the bits of none, with and without dist.reproducible;
# gradients the same losses, and the same bits where a step is one micro-batch of each rank. A run
# saved on 4 ranks goes on on any number of them.
# timeout: 900
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

# stage NAME RANKS DIR [SETTING...]: runs a stage of the recipe into DIR
stage() {
    local name=$1 ranks=$2 dir=$3
    shift 3
    local launch=(mpirun -n "$ranks" --oversubscribe --bind-to none)
    [ "$ranks" != 1 ] || launch=()
    "${launch[@]}" rhetor-"$name" "$tiny/$name.yaml" run.dir="$dir" eval.every=0 save.every=0 \
        run.tensorboard=false "$@" >"$dir.out" 2>&1 || { tail -n 20 "$dir.out" && fail "$name on $ranks ranks"; }
}

# same_bits A B: metrics and the last checkpoint
same_bits() {
    cmp "$1/metrics.jsonl" "$2/metrics.jsonl" || fail "the metrics of $1 and $2"
    identical "$1" "$2"
}

# near KEY A B: the curves differ by at most 1e-5, relative to values above 1 else absolute
near() {
    local key=$1
    paste <(curve "$2" "$key") <(curve "$3" "$key") | awk -v what="$key of $2 and $3" '
        { a = $1 < 0 ? -$1 : $1; d = $1 - $2; if (d < 0) d = -d; if (a < 1) a = 1
          if (NF != 2) bad = 1
          if (d / a > worst) worst = d / a }
        END { printf "%-45s %3d steps, differ by %.1e\n", what, NR, worst; exit bad || NR == 0 || worst > 1e-5 }' ||
        fail "$key of $2 and $3"
}
curve() {
    sed -nE "s,.*\"$2\": ([^,}]*).*,\1,p" "$1/metrics.jsonl"
}

# compare NAME RANKS KEY SETTING...: the stage with each kind of sharding
compare() {
    local name=$1 ranks=$2 key=$3 n kind
    shift 3
    for n in $ranks; do
        for kind in none optimizer gradients; do
            stage "$name" $n "$name-$n-$kind" dist.shard=$kind dist.reproducible=false "$@"
        done
        same_bits "$name-$n-none" "$name-$n-optimizer"
        near "$key" "$name-$n-none" "$name-$n-gradients"
    done
}

must rhetor-data synth --out data --seed 5 --documents 400 --documents-heldout 20 --sft 300 --sft-heldout 20 \
    --compare 60 --compare-heldout 10 --ppo 200 --eval 10
must rhetor-data tokenizer --vocab 384 --out tokenizer.json data/documents.jsonl
must rhetor-data encode --tokenizer tokenizer.json --out train.h5 data/documents.jsonl
must rhetor-data encode --tokenizer tokenizer.json --out heldout.h5 data/documents_heldout.jsonl

# 10 windows do not divide evenly: ranks make different numbers of passes.
pre=(model.width=32 train.steps=50 train.batch=10 train.micro_tokens=200)
compare pretrain "2 3" loss "${pre[@]}" model.dropout=0.1
one=(train.steps=5 train.batch=8 dist.reproducible=false)
stage pretrain 2 one-none "${one[@]}"
stage pretrain 2 one-gradients "${one[@]}" dist.shard=gradients train.recompute=true
same_bits one-none one-gradients
expect 78 "dist.reproducible=false" -- "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" dist.shard=gradients

stage sft 1 sft from.model=pretrain-2-none train.steps=50 train.batch=10 train.micro_tokens=200
compare sft 3 loss from.model=pretrain-2-none train.steps=50 train.batch=10 train.micro_tokens=200

must rhetor-generate -m sft --in data/compare_prompts.jsonl --out samples.jsonl -n 4 --max-new 12 --seed 5
must rhetor-data rank --gold --noise 0.1 --seed 5 --out ranked.jsonl samples.jsonl
compare reward 2 loss from.model=sft train.steps=50 train.batch=4 train.micro_tokens=200 optim.lr=3e-4

# Two models, a pretraining term, a moving average; 50 optimizer steps of replayed episodes.
ppo=(from.model=sft from.reward=reward-2-none ppo.batch=40 ppo.minibatches=5 train.micro_tokens=300 ppo.max_response=12)
stage ppo 1 ppo1 "${ppo[@]}" ppo.episodes=200 ppo.save_rollouts=true
compare ppo "2 3" loss/policy_avg "${ppo[@]}" ppo.episodes=200 ppo.replay=ppo1/rollouts
for n in 2 3; do
    near loss/value_avg ppo-$n-none ppo-$n-gradients
    near objective/kl ppo-$n-none ppo-$n-gradients
done

# Saved on 4 ranks at step 25. With virtual ranks, the default, every layout has the same bits.
stage pretrain 4 four "${pre[@]}" dist.shard=optimizer save.every=25
for n in 1 2 3 4; do
    cp -r four four$n
    rm four$n/checkpoints/step_00000050.*
    stage pretrain $n four$n "${pre[@]}" dist.shard=optimizer
    same_bits four four$n
done
cp -r four four-gradients
rm four-gradients/checkpoints/step_00000050.*
stage pretrain 2 four-gradients "${pre[@]}" dist.shard=gradients dist.reproducible=false
near loss four four-gradients

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
