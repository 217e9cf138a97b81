#!/bin/bash
# Eight ranks that share this machine's cores give the bits of one rank, in every stage;
# RHETOR_RANKS=32 make test T=test_many_ranks: as many as that.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH
many=${RHETOR_RANKS:-8}
settings=(run.tensorboard=false eval.every=0 save.every=0 dist.virtual_ranks=32 run.threads=1)

# both NAME [SETTING...]: the stage on 1 and on many ranks
both() {
    local name=$1 ranks
    shift
    for ranks in 1 $many; do stage "$name" $ranks "$name-$ranks" "$@"; done
    same_run "$name-1" "$name-$many"
}

tiny_data 384 --seed 5 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 40 --compare-heldout 10 --ppo 80 --eval 10
both pretrain train.steps=2 model.layers=2 model.width=32 model.context=64 train.batch=40
both sft train.steps=2 train.batch=40 save.every_epoch=false from.model=pretrain-1
tiny_ranked sft-1
both reward train.steps=2 train.batch=35 from.model=sft-1
both ppo from.model=sft-1 from.reward=reward-1 ppo.episodes=72 ppo.batch=36 ppo.minibatches=1 ppo.max_response=8 \
    ppo.save_rollouts=true data.heldout=data/ppo_prompts.jsonl
