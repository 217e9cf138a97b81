#!/bin/bash
# The families of models: Llama's block, with grouped heads, through all four stages, the same bits on
# one and two ranks, whatever micro-batches, threads and activation checkpointing; the others in
# pretraining and PPO. A switch by itself, and what is refused.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

tiny_data 384 --seed 5 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 30 --compare-heldout 10 --ppo 100 --eval 10

mkdir one two
settings=(run.tensorboard=false eval.every=0 save.every=0)
small=(model.layers=2 model.heads=4 model.width=32 model.context=64 train.batch=11)
llama=("${small[@]}" model.family=llama model.kv_heads=2)
stage pretrain 1 one/pretrain run.threads=1 "${llama[@]}" train.steps=60 optim.lr=3e-3 model.dropout=0.1
stage pretrain 2 two/pretrain run.threads=2 "${llama[@]}" train.steps=60 optim.lr=3e-3 model.dropout=0.1 \
    train.micro_tokens=300 dist.shard=optimizer
same_run one/pretrain two/pretrain
curve one/pretrain loss | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(first > 5.5 && last < first - 1) }' ||
    fail "pretraining does not learn"
expect 0 "llama" "4 heads (2 of keys)" -- rhetor-ckpt show one/pretrain

both() { # STAGE SETTING...
    stage $1 1 one/$1 run.threads=1 "${@:2}"
    stage $1 2 two/$1 run.threads=2 train.micro_tokens=300 "${@:2}"
    same_run one/$1 two/$1
}
both sft from.model=one/pretrain train.steps=6 train.batch=11 train.recompute=true
tiny_ranked one/sft
both reward from.model=one/sft train.steps=4 train.batch=5
ppo=(ppo.episodes=48 ppo.batch=24 ppo.minibatches=2 ppo.max_response=12 ppo.save_rollouts=true)
both ppo from.model=one/sft from.reward=one/reward "${ppo[@]}"
[ "$(curve one/ppo val/first_ratio_gap | sort -u)" = 0 ] || fail "ratio of the first minibatch"
curve one/ppo rollout/decode_gap_max | awk '{ n++; if ($1 > 1e-4) bad = 1 } END { exit bad || n != 2 }' ||
    fail "the sampler's log-probabilities are others: $(curve one/ppo rollout/decode_gap_max)"
expect 0 "are bit-identical" -- rhetor-ckpt diff one/sft two/sft

# Killed and resumed on another layout.
leaves=75 stage ppo 1 three run.deadline=1e-6 from.model=one/sft from.reward=one/reward "${ppo[@]}"
leaves=0 stage ppo 2 three from.model=one/sft from.reward=one/reward "${ppo[@]}"
identical one/ppo three

# The other families, trained and sampled.
for family in qwen2 qwen3 gpt_neox opt; do
    stage pretrain 1 $family "${small[@]}" model.family=$family train.steps=4
    stage reward 1 $family-reward from.model=$family train.steps=2 train.batch=5
    stage ppo 1 $family-ppo from.model=$family from.reward=$family-reward ppo.episodes=12 ppo.batch=12 \
        ppo.minibatches=2 ppo.max_response=12
    [ "$(curve $family-ppo val/first_ratio_gap)" = 0 ] || fail "$family: ratio of the first minibatch"
    curve $family-ppo rollout/decode_gap_max | awk '{ exit !($1 < 1e-4) }' || fail "$family: the sampler"
done

# GPT-2 with RoPE alone; Muon on heads that are grouped; a plan.
stage pretrain 1 rope "${small[@]}" model.positions=rope model.mlp=swiglu train.steps=2
expect 0 "positions: rope" -- rhetor-ckpt show rope --config
stage pretrain 1 muon1 "${llama[@]}" optim.name=muon optim.lr=1e-2 train.steps=3
stage pretrain 2 muon2 "${llama[@]}" optim.name=muon optim.lr=1e-2 train.steps=3 dist.shard=optimizer
same_run muon1 muon2
expect 0 "parameters" -- rhetor-pretrain "$tiny/pretrain.yaml" run.dir=dry "${llama[@]}" --dry-run

expect 78 "model.family is" "gpt_neox" -- rhetor-pretrain "$tiny/pretrain.yaml" run.dir=no model.family=mamba
expect 78 "model.kv_heads" "divide" -- rhetor-pretrain "$tiny/pretrain.yaml" run.dir=no "${llama[@]}" model.kv_heads=3
expect 78 "model.heads" "head_size" -- rhetor-pretrain "$tiny/pretrain.yaml" run.dir=no model.heads=5
expect 78 "model.rope_fraction" "pairs" -- rhetor-pretrain "$tiny/pretrain.yaml" run.dir=no "${llama[@]}" model.rope_fraction=0.4
