#!/bin/bash
# Saved on 4 ranks, gone on with on 1, 2 or 3: the loss curve of the run on one rank, in every stage.
# timeout: 600
. "$(dirname "$0")/lib.sh"
must "$bin/rhetor-pipeline" "$tiny" --run ref
export RUN=ref

# start STAGE RANKS DIR [key=value...]: the run of the recipe, in another folder; its output is in
# DIR.out
start() {
    local command=("$bin/rhetor-$1" "$tiny/$1.yaml" "run.dir=$3" run.log_every=1 "${@:4}")
    [ "$2" = 1 ] || command=(mpirun -n "$2" --oversubscribe --bind-to none "${command[@]}")
    "${command[@]}" >"$3.out" 2>&1 & # in the background, or the shell tells of a kill
    wait $! 2>/dev/null
}
well() {
    start "$@" || { tail -n 20 "$3.out" && fail "$*"; }
}

well ppo 1 ppo1 ppo.save_rollouts=true
for stage in pretrain sft reward ppo; do
    settings=() curves=(loss) scale=0 reference=ref/$stage
    if [ $stage = ppo ]; then # on the same rollouts: a rounding error can make another token
        settings=(ppo.replay=ppo1/rollouts) reference=ppo1 scale=1
        curves=(objective/kl objective/scores loss/policy_avg loss/value_avg loss/ptx_avg val/ratio)
    fi
    dir=four-$stage
    RHETOR_FAULT=ckpt_save.begin:0:2:kill start $stage 4 $dir "${settings[@]}" && fail "$dir was not killed"
    [ "$(ls $dir/checkpoints/*.json | wc -l)" = 1 ] || fail "$dir: $(ls $dir/checkpoints)"
    expect 0 "ranks: 4," -- "$bin/rhetor-ckpt" show $dir
    for n in 1 2 3; do
        cp -r $dir $dir-$n
        rm -f $dir-$n/lock
        well $stage $n $dir-$n "${settings[@]}"
        grep -q 'resuming at step' $dir-$n.out || fail "$dir-$n did not resume: $(cat $dir-$n.out)"
    done
    steps=$(wc -l <$reference/metrics.jsonl)
    for key in "${curves[@]}"; do
        same $key $scale 1e-5 "$steps" $reference $dir-1 $dir-2 $dir-3
    done
done
