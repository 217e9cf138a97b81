#!/bin/bash
# Where each rank adds up its own share (dist.reproducible: false) the result depends on the layout by
# rounding only: the loss curves of all stages on 1, 2 and 4 ranks, PPO on replayed rollouts, and the
# responses of a sampled iteration. test_layout.sh: not even by that, in the other mode.
# timeout: 240
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
        dist.reproducible=false "$@" \
        >"$dir.out" 2>&1 || { tail -n 20 "$dir.out" && fail "$name on $ranks ranks"; }
}

# same KEY SCALE TOLERANCE STEPS DIR...: the curve of KEY in the metrics of every DIR is that of the
# first: |a - b| <= TOLERANCE max(|a|, SCALE) at each of the STEPS steps.
same() {
    local key=$1 scale=$2 tolerance=$3 steps=$4 first=$5 dir
    shift 5
    curve "$first" "$key" >a.txt
    for dir in "$@"; do
        curve "$dir" "$key" >b.txt
        paste a.txt b.txt | awk -v scale="$scale" -v tolerance="$tolerance" -v steps="$steps" \
            -v what="$key of $first and $dir" '
            { a = $1 < 0 ? -$1 : $1; d = $1 - $2; if (d < 0) d = -d
              if (a < scale) a = scale
              if (NF != 2 || !($1 ~ /[0-9]/) || !($2 ~ /[0-9]/)) { print what ", line " NR ": " $0; bad = 1 }
              if (d / a > worst) worst = d / a }
            END { printf "%-55s %3d steps, differ by %.1e\n", what, NR, worst
                  exit bad || NR != steps || worst > tolerance }' || fail "$key of $first and $dir"
    done
}
curve() {
    sed -nE "s,.*\"$2\": ([^,}]*).*,\1,p" "$1/metrics.jsonl"
}

must rhetor-data synth --out data --seed 5 --documents 400 --documents-heldout 20 --sft 300 --sft-heldout 20 \
    --compare 60 --compare-heldout 10 --ppo 200 --eval 10
must rhetor-data tokenizer --vocab 384 --out tokenizer.json data/documents.jsonl
must rhetor-data encode --tokenizer tokenizer.json --out train.h5 data/documents.jsonl
must rhetor-data encode --tokenizer tokenizer.json --out heldout.h5 data/documents_heldout.jsonl

# Dropout too is the same whatever the layout. 10 windows and examples do not divide evenly by 4.
small=(model.layers=2 model.width=32 model.context=64)
for n in 1 2 4; do
    stage pretrain $n pretrain$n "${small[@]}" train.steps=50 train.batch=10 train.micro_tokens=200 model.dropout=0.1
done
same loss 0 1e-5 50 pretrain1 pretrain2 pretrain4
same eval/loss 0 1e-5 1 pretrain1 pretrain2 pretrain4

for n in 1 2 4; do
    stage sft $n sft$n from.model=pretrain1 train.steps=50 train.batch=10 train.micro_tokens=200 model.dropout=0.1
done
same loss 0 1e-5 50 sft1 sft2 sft4
same eval/loss 0 1e-5 1 sft1 sft2 sft4

must rhetor-generate -m sft1 --in data/compare_prompts.jsonl --out samples.jsonl -n 4 --max-new 12 \
    --seed 5
must rhetor-data rank --gold --noise 0.1 --seed 5 --out ranked.jsonl samples.jsonl
for n in 1 2 4; do
    stage reward $n reward$n from.model=sft1 train.steps=50 train.batch=6 train.micro_tokens=200 \
        optim.lr=3e-4
done
same loss 0 1e-5 50 reward1 reward2 reward4
same margin 1 1e-5 50 reward1 reward2 reward4

# PPO: a sampled iteration, then four on the rollouts of one rank.
ppo=(from.model=sft1 from.reward=reward1 ppo.batch=96 ppo.minibatches=4 train.micro_tokens=400 ppo.max_response=12)
stage ppo 1 ppo1 "${ppo[@]}" ppo.episodes=384 ppo.save_rollouts=true
for n in 2 4; do
    stage ppo $n ppo$n "${ppo[@]}" ppo.episodes=96 ppo.save_rollouts=true
    paste -d'\n' ppo1/rollouts/iteration_000000.jsonl ppo$n/rollouts/iteration_000000.jsonl |
        awk -v n=$n 'NR % 2 { a = $0; next }
            { if (a != $0) differ++; all++ }
            END { printf "responses on 1 and %d ranks: %d of %d differ\n", n, differ, all
                  exit all != 96 || differ > 0.001 * all }' || fail "responses on 1 and $n ranks"
done
for n in 1 2 4; do
    stage ppo $n replay$n "${ppo[@]}" ppo.episodes=384 ppo.replay=ppo1/rollouts
done
for key in objective/kl objective/scores objective/entropy loss/policy_avg loss/value_avg loss/ptx_avg \
    val/ratio objective/beta; do
    same $key 1 1e-5 4 ppo1 replay1 replay2 replay4
done
for d in ppo1 replay1 replay2 replay4; do
    curve $d val/first_ratio_gap | awk '$1 != 0 { exit 1 }' || fail "first minibatch of $d: ratio is not 1"
done
