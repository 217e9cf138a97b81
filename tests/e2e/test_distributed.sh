#!/bin/bash
# Where each rank adds up its own share (dist.reproducible: false) the result depends on the layout by
# rounding only: the loss curves of all stages on 1, 2 and 4 ranks, PPO on replayed rollouts, and the
# responses of a sampled iteration. test_layout.sh: not even by that, in the other mode.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

settings=(eval.every=0 save.every=0 dist.reproducible=false)

tiny_data 384 --seed 5 --documents 400 --documents-heldout 20 --sft 300 --sft-heldout 20 \
    --compare 60 --compare-heldout 10 --ppo 200 --eval 10

# Dropout too is the same whatever the layout. 10 windows and examples do not divide evenly by 4.
small=(model.layers=2 model.width=32 model.context=64)
for n in 1 2 4; do
    stage pretrain $n pretrain$n "${small[@]}" train.steps=50 train.batch=10 train.micro_tokens=200 model.dropout=0.1
done
near loss 0 50 pretrain1 pretrain2 pretrain4
near eval/loss 0 1 pretrain1 pretrain2 pretrain4

for n in 1 2 4; do
    stage sft $n sft$n from.model=pretrain1 train.steps=50 train.batch=10 train.micro_tokens=200 model.dropout=0.1
done
near loss 0 50 sft1 sft2 sft4
near eval/loss 0 1 sft1 sft2 sft4

tiny_ranked sft1
for n in 1 2 4; do
    stage reward $n reward$n from.model=sft1 train.steps=50 train.batch=6 train.micro_tokens=200 \
        optim.lr=3e-4
done
near loss 0 50 reward1 reward2 reward4
near margin 1 50 reward1 reward2 reward4

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
    near $key 1 4 ppo1 replay1 replay2 replay4
done
for d in ppo1 replay1 replay2 replay4; do
    curve $d val/first_ratio_gap | awk '$1 != 0 { exit 1 }' || fail "first minibatch of $d: ratio is not 1"
done
