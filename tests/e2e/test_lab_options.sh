#!/bin/bash
# What experiments vary: reward.pairs, reward.layers, pretraining that goes on from a model.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
must "$bin/rhetor-pipeline" "$tiny" --run run --until rank

# --- reward.pairs: shuffled is K-way where K is 2, bit by bit (chosen first)
awk 'BEGIN {for (i = 0; i < 40; i++) printf "{\"prompt\": \"Say %d.\", \"chosen\": \"It is %d.\", \"rejected\": \"No %d\"}\n", i % 9, i % 9, i % 7}' >two.jsonl
stage reward 1 kway data.train=two.jsonl
stage reward 1 pairs data.train=two.jsonl reward.pairs=shuffled
identical kway pairs
# of four answers each pair is an item: an epoch has as many steps of one as there are pairs
pairs=$(grep -oE '"ranks":\[[0-9,]*\]' run/ranked.jsonl | tr -dc '0-9,\n' |
    awk -F, '{for (i = 1; i <= NF; i++) for (j = 1; j < i; j++) n += $i != $j} END {print n}')
stage reward 1 four reward.pairs=shuffled train.steps=0 train.epochs=1 train.batch=32 save.every=0
steps=$(sed -nE 's/.*"steps": ([0-9]+).*/\1/p' four/status.json)
[ "$pairs" -gt 100 ] && [ "$steps" -ge $((pairs / 32)) ] && [ "$steps" -le $(((pairs + 31) / 32)) ] || fail "$steps steps for $pairs pairs"

# --- reward.layers: the first block of two; its untrained trunk is the parent's
stage reward 1 small reward.layers=1 optim.lr=0
must "$bin/rhetor-ckpt" show small
grep -qE "(^|[^0-9])1 layer" must.out || fail "$(cat must.out)"
expect 78 "reward.layers is 3" "the parent has 2 layers" -- "$bin/rhetor-reward" "$tiny/reward.yaml" run.dir=none reward.layers=3
stage ppo 1 ppo from.model=run/sft from.reward=small ppo.episodes=64

# --- pretraining goes on
expect 0 -- "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=still from.model=run/pretrain optim.lr=0 train.steps=2
must "$bin/rhetor-ckpt" export still a
must "$bin/rhetor-ckpt" export run/pretrain b
cmp a/model.safetensors b/model.safetensors || fail "at learning rate 0 it has moved"
stage pretrain 1 on from.model=run/pretrain train.steps=20 save.every=7
before=$(curve run/pretrain loss | head -n 1) after=$(curve on loss | head -n 1)
awk -v a="$before" -v b="$after" 'BEGIN {exit !(b < a - 0.5)}' || fail "the first loss is $after, of the first run $before"
stage pretrain 2 two from.model=run/pretrain train.steps=20 save.every=7
near loss 0.01 20 on two
expect 78 "its model has layers 2, here it is 3" -- "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=none from.model=run/pretrain model.layers=3
exit 0
