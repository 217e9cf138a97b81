#!/bin/bash
# optim.name: muon. The same bits on 1 to 4 ranks, with and without dist.shard, with other threads and
# after moving between them; the two optimizers do not resume each other's runs; --dry-run, plan.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5 PATH=$bin:$PATH

tiny_data 384 --seed 5 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 10 --compare-heldout 10 --ppo 10 --eval 10

# Width 80: the ranks' shares of a layer, whole blocks of 16384 numbers, cut its matrices.
settings=(run.tensorboard=false eval.every=2 save.every=0 train.steps=6 model.layers=2 model.width=80
    model.context=64 train.batch=11 optim.name=muon optim.lr=1e-2 optim.decay=0.1)
stage pretrain 1 one run.threads=1
stage pretrain 2 two dist.shard=none train.micro_tokens=300 run.threads=2
stage pretrain 4 four dist.shard=optimizer
stage pretrain 3 three dist.shard=optimizer train.recompute=true
leaves=75
for layout in "4 optimizer" "1 none" "3 optimizer" "2 none"; do
    stage pretrain ${layout% *} moved dist.shard=${layout#* } run.deadline=1e-6
done
leaves=0
stage pretrain 2 moved dist.shard=optimizer
[ "$(grep -c 'resuming at step' moved/log.txt)" = 4 ] || fail "moved did not resume four times"
for dir in two four three moved; do same_run one $dir; done

# Sharded gradients are added in another order; the losses are near.
stage pretrain 2 gradients dist.shard=gradients dist.reproducible=false
near loss 1 6 one gradients

# It is another optimizer, and a run stays with its own.
stage pretrain 1 adamw optim.name=adamw
expect 1 "differ" -- rhetor-ckpt diff one adamw
leaves=78
stage pretrain 1 one train.steps=8 optim.name=adamw
grep -q 'one/.* has no optimizer/m/h.0.attn.qkv.weight: it was made with another optim.name than adamw' one.out ||
    fail "muon's run by AdamW: $(cat one.out)"
stage pretrain 1 adamw train.steps=8
grep -q 'adamw/.* has no optimizer/momentum/h.0.attn.qkv.weight: it was made with another optim.name than muon' adamw.out ||
    fail "AdamW's run by Muon: $(cat adamw.out)"
leaves=0

# Other stages take its model; the critic's head is AdamW's.
settings=(run.tensorboard=false optim.name=muon train.steps=2)
stage sft 2 sft from.model=one train.batch=7 save.every_epoch=false dist.shard=optimizer
stage sft 1 sft-1 from.model=one train.batch=7 save.every_epoch=false
same_run sft-1 sft

# The update's scratch is in the plan, also where it is larger than the activations.
settings+=(model.layers=2 model.width=160 train.batch=1 train.micro_tokens=8 model.context=8 run.threads=1)
must rhetor-pretrain "$tiny/pretrain.yaml" --dry-run "${settings[@]}"
dry=$(sed -n 's/.*weights, gradients, moments \([0-9.]*\), activations \([0-9.]*\),.*/\1 \2/p' must.out)
cat >rates.json <<'END'
{"origin": "made up", "rates": [{"threads": 1, "train_gflops": 50, "micro_gbs": 10, "forward_gflops": 60,
 "update_gbs": 20, "decode_gbs": 12, "decode_gflops": 80}]}
END
must rhetor-plan --rates rates.json --cores 1 --memory 8 "$tiny/pretrain.yaml" --json "${settings[@]}"
for key in activations weights gradients moments; do
    sed -n "s/^ *\"$key\": \([0-9][0-9.]*\).*/\1/p" must.out | head -n 1
done | tr '\n' ' ' | awk -v dry="$dry" '{
    split(dry, d, " "); a = d[2] * 1048576 / $1 - 1; s = d[1] * 1048576 / ($2 + $3 + $4) - 1
    exit !(NF == 4 && a * a < 0.05 ^ 2 && s * s < 0.05 ^ 2)}' || fail "--dry-run says $dry MiB: $(cat must.out)"
