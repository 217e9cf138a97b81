#!/bin/bash
# Saved on 4 ranks, gone on with on 1, 2 or 3: the bytes of the run on one rank that was left alone, in
# every stage.
. "$(dirname "$0")/lib.sh"
must "$bin/rhetor-pipeline" "$tiny" --run ref
export RUN=ref

for name in pretrain sft dpo reward ppo grpo; do
    dir=four-$name
    RHETOR_FAULT=ckpt_save.begin:0:2:kill leaves=137 stage $name 4 $dir
    [ "$(ls $dir/checkpoints/*.json | wc -l)" = 1 ] || fail "$dir: $(ls $dir/checkpoints)"
    expect 0 "ranks: 4," -- "$bin/rhetor-ckpt" show $dir
    for n in 1 2 3; do
        cp -r $dir $dir-$n
        stage $name $n $dir-$n
        grep -q 'resuming at step' $dir-$n.out || fail "$dir-$n did not resume: $(cat $dir-$n.out)"
        identical ref/$name $dir-$n
    done
done
