#!/bin/bash
# Saved on 4 ranks, gone on with on 1, 2 or 3: the bytes of the run on one rank that was left alone, in
# every stage.
# timeout: 300
. "$(dirname "$0")/lib.sh"
must "$bin/rhetor-pipeline" "$tiny" --run ref
export RUN=ref

# start STAGE RANKS DIR: the run of the recipe, in another folder; its output is in DIR.out
start() {
    local command=("$bin/rhetor-$1" "$tiny/$1.yaml" "run.dir=$3")
    [ "$2" = 1 ] || command=(mpirun -n "$2" --oversubscribe --bind-to none "${command[@]}")
    "${command[@]}" >"$3.out" 2>&1 & # in the background, or the shell tells of a kill
    wait $! 2>/dev/null
}

for stage in pretrain sft reward ppo; do
    dir=four-$stage
    RHETOR_FAULT=ckpt_save.begin:0:2:kill start $stage 4 $dir && fail "$dir was not killed"
    [ "$(ls $dir/checkpoints/*.json | wc -l)" = 1 ] || fail "$dir: $(ls $dir/checkpoints)"
    expect 0 "ranks: 4," -- "$bin/rhetor-ckpt" show $dir
    for n in 1 2 3; do
        cp -r $dir $dir-$n
        start $stage $n $dir-$n || { tail -n 20 $dir-$n.out && fail "$dir-$n"; }
        grep -q 'resuming at step' $dir-$n.out || fail "$dir-$n did not resume: $(cat $dir-$n.out)"
        identical ref/$stage $dir-$n
    done
done
