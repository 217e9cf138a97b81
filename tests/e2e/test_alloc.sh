#!/bin/bash
# Nothing is allocated in the steady state: once every size of micro-batch has been seen, ten steps
# more ask no more of the heap.
. "$(dirname "$0")/lib.sh"

${CC:-gcc} -O1 -D_GNU_SOURCE -shared -fPIC -o count.so "$root/tests/e2e/count_malloc.c" 2>cc.out || fail "$(cat cc.out)"
export RUN=. SEED=1
tiny_data 512 --documents 300 --documents-heldout 10 --sft 100 --sft-heldout 10 \
    --compare 40 --compare-heldout 10 --ppo 40 --eval 10

# steady STAGE STEPS_KEY A B ALLOWED [SETTING...]: B - A steps allocate at most ALLOWED times each
steady() {
    local stage=$1 key=$2 a=$3 b=$4 allowed=$5 n
    shift 5
    for n in "$a" "$b"; do
        must env COUNT_MALLOC="$stage.$n" LD_PRELOAD=./count.so "$bin/rhetor-$stage" "$tiny/$stage.yaml" \
            "$key=$n" run.dir="$stage-$n" data.heldout= save.every=0 run.log_every=1000 save.keep_best=false "$@"
    done
    [ -s "$stage.$a" ] && [ -s "$stage.$b" ] || fail "$stage: nothing was counted"
    n=$(($(cat "$stage.$b") - $(cat "$stage.$a")))
    echo "$stage: $(cat "$stage.$a") allocations with $key=$a, $n more with $key=$b"
    [ "$n" -le $((allowed * (b - a))) ] || fail "$stage allocates in the steady state"
}
steady pretrain train.steps 10 20 0
ln -s pretrain-20 pretrain
steady sft train.steps 30 40 0 data.mix= data.mix_ratio=0 save.every_epoch=false
ln -s sft-40 sft
tiny_ranked sft
steady reward train.steps 2 6 0
ln -s reward-6 reward
# A rollout makes all its episodes again; nothing is allocated for a token or a minibatch.
steady ppo ppo.episodes 32 96 8 ppo.batch=16 data.mix= ptx.coef=0 ppo.max_response=8 from.model=sft
