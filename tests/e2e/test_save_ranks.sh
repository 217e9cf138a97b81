#!/bin/bash
# Saving on two ranks: one of them killed at each point of a save, or out of disk space there.
. "$(dirname "$0")/lib.sh"
tiny_data 384 --seed 1 --documents 200 --documents-heldout 20 --sft 10 --sft-heldout 5 --compare 10 \
    --compare-heldout 5 --ppo 10 --eval 5
export RUN=$PWD

settings=(train.steps=6 save.every=2 eval.every=0 run.log_every=1)

# --- killed in the second save: from N or from N-1
stage pretrain 2 two
arrays=$("$bin/rhetor-ckpt" show two --arrays | grep -c ' f32 ')
for fault in begin:1:2 array:0:$((arrays + 10)) window:0:2 window:1:2 written:1:2 verify:1:2 verified:0:2 \
    renamed:0:2 committed:0:2; do
    dir=killed-${fault//:/-}
    RHETOR_FAULT=ckpt_save.$fault:kill leaves=137 stage pretrain 2 $dir
    at=2
    [ $fault = committed:0:2 ] && at=4
    stage pretrain 2 $dir
    grep -q "resuming at step $at of 6" $dir.out || fail "$dir: $(cat $dir.out)"
    identical two $dir
    no_temporaries $dir
done

# --- no space, found by the rank that does not write: one warning, and on
for point in window verify; do
    dir=full-$point
    RHETOR_FAULT=ckpt_save.$point:1:2:enospc stage pretrain 2 $dir
    [ "$(grep -c 'was not saved: .*no space left' $dir.out)" = 1 ] || fail "$dir: $(cat $dir.out)"
    identical two $dir
    no_temporaries $dir
done
RHETOR_FAULT=ckpt_save.window:1:2+:enospc leaves=74 stage pretrain 2 never save.every=1
[ "$(grep -c '3 checkpoints in a row failed.*no space left' never.out)" = 1 ] || fail "$(cat never.out)"
expect 0 "good: pretrain, step 1," -- "$bin/rhetor-ckpt" verify never

# --- the best could not be saved: later weights do not take its name, and the next best is saved
RHETOR_FAULT=ckpt_save.begin:0:1:enospc stage pretrain 2 best eval.every=2 save.every=0 save.keep_best=true
[ "$(grep -c 'was not saved' best.out)" = 1 ] || fail "$(cat best.out)"
! grep -q 'saved step [35]' best.out || fail "saved again for an old result: $(cat best.out)"
grep -qE '"step": ?[46]' best/checkpoints/best.json || fail "$(cat best/checkpoints/best.json)"
