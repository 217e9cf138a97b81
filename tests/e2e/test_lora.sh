#!/bin/bash
# Adapters (lora.rank) in SFT, reward model and PPO: the same bits on one and two ranks, whatever
# micro-batches, threads and dist.shard, after a kill too; checkpoints hold adapters alone; a base
# that has changed is refused; merged checkpoints.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

tiny_data 384 --seed 5 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 30 --compare-heldout 10 --ppo 100 --eval 10
settings=(run.tensorboard=false eval.every=0 save.every=0)
mkdir one two
stage pretrain 1 base model.layers=2 model.heads=4 model.width=32 model.context=64 model.family=llama \
    train.steps=40 optim.lr=3e-3

lora=(lora.rank=4 optim.lr=3e-3)
both() { # STAGE SETTING...
    stage $1 1 one/$1 run.threads=1 "${@:2}" "${lora[@]}"
    stage $1 2 two/$1 run.threads=2 train.micro_tokens=300 "${@:2}" "${lora[@]}"
    same_run one/$1 two/$1
}
sft=(from.model=base train.steps=12 train.batch=11 lora.dropout=0.1)
both sft "${sft[@]}"
stage sft 2 shard "${sft[@]}" "${lora[@]}" dist.shard=optimizer train.recompute=true
same_run one/sft shard
stage sft 2 gradients "${sft[@]}" "${lora[@]}" dist.shard=gradients dist.reproducible=false
near loss 1 12 one/sft gradients
rhetor-ckpt show one/sft --arrays >arrays
grep -q '^params/h.1.mlp.proj.lora_b f32' arrays || fail "no adapters"
! grep -E '^params/.*weight' arrays || fail "frozen weights in the checkpoint"

tiny_ranked one/sft
both reward from.model=one/sft train.steps=8 train.batch=5
ppo=(from.model=one/sft from.reward=one/reward ppo.episodes=48 ppo.batch=24 ppo.minibatches=2
    ppo.max_response=12 ppo.save_rollouts=true)
both ppo "${ppo[@]}"
[ "$(curve one/ppo val/first_ratio_gap | sort -u)" = 0 ] || fail "ratio of the first minibatch"
curve one/ppo rollout/decode_gap_max | awk '{ n++; if ($1 > 1e-4) bad = 1 } END { exit bad || n != 2 }' || fail "the sampler"
leaves=75 stage ppo 1 three run.deadline=1e-6 "${ppo[@]}" "${lora[@]}"
leaves=0 stage ppo 2 three "${ppo[@]}" "${lora[@]}"
identical one/ppo three

# A reward model that was trained whole is the critic's base.
stage reward 1 whole from.model=one/sft train.steps=2 train.batch=5
stage ppo 1 on_whole "${ppo[@]}" "${lora[@]}" from.reward=whole
[ "$(curve on_whole val/first_ratio_gap | sort -u)" = 0 ] || fail "ratio of the first minibatch"

# Merged it is a model like any other, and answers the same.
must rhetor-ckpt merge one/ppo merged.h5
for model in one/ppo merged.h5; do
    must rhetor-generate -m $model --in data/ppo_prompts.jsonl --out "$(basename $model).jsonl" --max-new 8 --seed 3
done
cmp ppo.jsonl merged.h5.jsonl || fail "the merged model answers otherwise"
expect 64 "merge" "holds no adapters" -- rhetor-ckpt merge merged.h5 again.h5

# The base is made again: its adapters fit no more.
rm -r base
stage pretrain 1 base model.layers=2 model.heads=4 model.width=32 model.context=64 model.family=llama train.steps=40
expect 65 "its adapters are on the checkpoint" -- rhetor-generate -m one/sft --in data/ppo_prompts.jsonl --out no.jsonl
