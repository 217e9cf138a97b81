#!/bin/bash
# timeout: 1200
# model.weights=bf16 and lora.rank in every stage: on a base whose weights are bfloat16's the same bits as
# in f32, on 1, 2 and 4 ranks, in micro-batches of any size, whatever dist.shard, after stops, too.
. "$(dirname "$0")/lib.sh"
export RUN=. SEED=1
tiny_data 512 --documents 300 --documents-heldout 20 --sft 60 --sft-heldout 10 \
    --compare 20 --compare-heldout 10 --ppo 60 --eval 10
settings=(run.tensorboard=false eval.every=0 save.every=0)
stage pretrain 1 base model.layers=2 model.heads=4 model.kv_heads=2 model.width=32 model.context=64 \
    model.family=llama train.steps=30 optim.lr=3e-3
must "$bin/rhetor-ckpt" export base exact.gguf --format gguf --type bf16
must "$bin/rhetor-ckpt" import exact.gguf exact.h5
expect 1 "params/wte.weight" -- "$bin/rhetor-ckpt" diff base exact.h5

lora=(lora.rank=3 optim.lr=3e-3 "optim.warmup=0")
# both STAGE SETTING...: f32 in `STAGE`, bfloat16 on another layout in `STAGE-16`
both() {
    stage "$1" 1 "$1" "${@:2}" "${lora[@]}"
    stage "$1" 2 "$1-16" "${@:2}" "${lora[@]}" model.weights=bf16 train.micro_tokens=200 run.threads=2
    same_run "$1" "$1-16"
}
both sft from.model=exact.h5 train.steps=6 train.batch=9 lora.dropout=0.1 save.every_epoch=false
tiny_ranked exact.h5
both reward from.model=exact.h5 train.steps=5 train.batch=5

# reproduces STAGE SETTING...
reproduces() {
    both "$@"
    stage "$1" 4 "$1-4" "${@:2}" "${lora[@]}" model.weights=bf16 dist.shard=optimizer train.recompute=true
    leaves=75
    for ranks in 2 1; do
        stage "$1" $ranks "$1-moved" "${@:2}" "${lora[@]}" model.weights=bf16 run.deadline=1e-6
    done
    leaves=0
    stage "$1" 4 "$1-moved" "${@:2}" "${lora[@]}" model.weights=bf16
    same_run "$1" "$1-4"
    same_run "$1" "$1-moved"
    "$bin/rhetor-ckpt" show "$1" --arrays >arrays
    grep -q '^params/h.1.mlp.proj.lora_b f32' arrays || fail "$1: no adapters"
    ! grep -E '^params/.*weight' arrays || fail "$1: frozen weights in the checkpoint"
}
reproduces dpo from.model=exact.h5 train.steps=4 train.batch=5
curve dpo loss | head -n 1 | awk '{exit !(($1 - log(2)) ^ 2 < 1e-12)}' || fail "the first loss: $(curve dpo loss)"
curve dpo loss | tail -n 1 | awk '{exit !($1 < log(2))}' || fail "nothing is learned: $(curve dpo loss)"
episodes=(from.model=exact.h5 from.reward=reward ppo.episodes=96 ppo.batch=32 ppo.minibatches=2 ppo.max_response=8
    ppo.save_rollouts=true)
reproduces ppo "${episodes[@]}" data.mix= ptx.coef=0
reproduces grpo "${episodes[@]}" grpo.resample=0
for run in ppo grpo; do
    [ "$(curve $run val/first_ratio_gap | sort -u)" = 0 ] || fail "$run: ratio of the first minibatch"
done
# Without a reference; a reward model of all weights; all weights trained beside a frozen bfloat16 reference.
stage grpo 1 free "${episodes[@]}" "${lora[@]}" grpo.resample=0 ppo.beta=0 model.weights=bf16
stage reward 1 whole from.model=exact.h5 train.steps=2 train.batch=5
for run in ppo grpo; do
    stage $run 1 $run-whole "${episodes[@]}" from.reward=whole model.weights=bf16 data.mix= ptx.coef=0 \
        $([ $run = grpo ] && echo grpo.resample=0)
    [ "$(curve $run-whole val/first_ratio_gap | sort -u)" = 0 ] || fail "$run-whole: ratio of the first minibatch"
done

# What generation reads is the same.
for option in "" --bf16; do
    must "$bin/rhetor-generate" -m exact.h5 $option --in data/ppo_prompts.jsonl --out "out$option.jsonl" --max-new 8
done
cmp out.jsonl out--bf16.jsonl || fail "--bf16 changes answers"
expect 78 "model.weights" "is for weights that nobody trains" -- "$bin/rhetor-sft" "$tiny/sft.yaml" run.dir=no \
    from.model=exact.h5 model.weights=bf16
