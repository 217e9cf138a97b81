#!/bin/bash
# Nothing is allocated in the steady state: once every size of micro-batch has been seen, ten steps
# more ask no more of the heap.
. "$(dirname "$0")/lib.sh"

${CC:-gcc} -O1 -D_GNU_SOURCE -shared -fPIC -o count.so "$root/tests/e2e/count_malloc.c" 2>cc.out || fail "$(cat cc.out)"
export RUN=. SEED=1
must "$bin/rhetor-data" synth --out data --documents 300 --documents-heldout 10 --sft 100 --sft-heldout 10 \
    --compare 40 --compare-heldout 10 --ppo 40 --eval 10
must "$bin/rhetor-data" tokenizer --vocab 512 --out tokenizer.json data/documents.jsonl
must "$bin/rhetor-data" encode --tokenizer tokenizer.json --out train.h5 data/documents.jsonl

# steady STAGE STEPS_KEY A B ALLOWED [SETTING...]: B - A steps allocate at most ALLOWED times each
steady() {
    local stage=$1 key=$2 a=$3 b=$4 allowed=$5 n
    shift 5
    for n in "$a" "$b"; do
        must env COUNT_MALLOC="$stage.$n" LD_PRELOAD="$PWD/count.so" "$bin/rhetor-$stage" "$tiny/$stage.yaml" \
            "$key=$n" run.dir="$stage-$n" data.heldout= save.every=0 run.log_every=1000 save.keep_best=false "$@"
    done
    n=$(($(cat "$stage.$b") - $(cat "$stage.$a")))
    echo "$stage: $(cat "$stage.$a") allocations with $key=$a, $n more with $key=$b"
    [ "$n" -le $((allowed * (b - a))) ] || fail "$stage allocates in the steady state"
}
steady pretrain train.steps 10 20 0
ln -s pretrain-20 pretrain
steady sft train.steps 30 40 0 data.mix= data.mix_ratio=0 save.every_epoch=false
ln -s sft-40 sft
must "$bin/rhetor-generate" -m sft --in data/compare_prompts.jsonl --out samples.jsonl -n 3 --max-new 8
must "$bin/rhetor-data" rank --gold --out ranked.jsonl samples.jsonl
steady reward train.steps 2 6 0
ln -s reward-6 reward
# A rollout makes its episodes anew; nothing is allocated for a token or a minibatch.
steady ppo ppo.episodes 32 96 8 ppo.batch=16 data.mix= ptx.coef=0 ppo.max_response=8 from.model=sft
