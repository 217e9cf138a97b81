#!/bin/bash
# Every stage, killed at random moments and at every point of a save, ends with the bytes of the run
# that was left alone: parameters, moments, averages, counters. One rank, then two.
#   KILLS=30 SEED=1 are the number of random kills and what they are drawn from.
# timeout: 300
. "$(dirname "$0")/lib.sh"
KILLS=${KILLS:-30}
RANDOM=${SEED:-1}
stages=(pretrain sft reward ppo)

must "$bin/rhetor-pipeline" "$tiny" --run ref
export RUN=ref

# command STAGE DIR [key=value...]: the run of the recipe, in another folder. It goes to `command`.
command_of() {
    command=("$bin/rhetor-$1" "$tiny/$1.yaml" "run.dir=$2" "${@:3}")
    [ "$ranks" = 1 ] || command=(mpirun -n "$ranks" --oversubscribe --bind-to none "${command[@]}")
}

# The ranks of a job: the processes that run the program.
processes() { pgrep -f -- "^$bin/rhetor-$1 .*run.dir=$2( |\$)"; }

# kill_at STAGE DIR SECONDS: starts it and kills -9 one of its ranks then, which ends the others.
# 1: it was done before.
kill_at() {
    local victims pid
    command_of "$1" "$2"
    "${command[@]}" >>kill.out 2>&1 &
    pid=$!
    sleep "$3"
    mapfile -t victims < <(processes "$1" "$2")
    [ ${#victims[@]} = 0 ] || kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null
    wait "$pid" 2>/dev/null
    local status=$?
    for _ in $(seq 300); do # 5 s are promised; a machine that has other work to do gets 30
        [ -z "$(processes "$1" "$2")" ] && break
        sleep 0.1
    done
    [ -z "$(processes "$1" "$2")" ] || fail "30 s after a rank was killed others live on"
    [ $status != 0 ] # mpirun hands the kill on, as 137
}

# finish STAGE DIR: runs it to its end, which must be that of the reference
finish() {
    command_of "$1" "$2"
    must "${command[@]}"
    identical "$reference/$1" "$2"
    must "$bin/rhetor-ckpt" verify "$2"
    [ -z "$(ls "$2"/checkpoints | grep tmp)" ] || fail "$2 holds stale temporaries"
    cmp -s "$reference/$1/metrics.jsonl" "$2/metrics.jsonl" ||
        fail "the metrics of $2 are not those of $reference/$1"
}

# kills STAGE COUNT: random kills, spread over the time that the stage takes
kills() {
    local stage=$1 dir=killed-$1-$ranks n=0 at began=$EPOCHREALTIME span
    command_of "$stage" "span-$stage-$ranks"
    must "${command[@]}"
    identical "$reference/$stage" "span-$stage-$ranks" # the same run once more: the same bytes
    span=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
    while [ $n -lt "$2" ]; do
        at=$(awk -v s="$span" -v r=$RANDOM 'BEGIN { printf "%.3f", s * r / 32768 }')
        if kill_at "$stage" "$dir" "$at"; then
            n=$((n + 1)) done_kills=$((done_kills + 1))
        else
            finish "$stage" "$dir" # it had ended: compare, begin anew
            rm -rf "$dir"
        fi
    done
    finish "$stage" "$dir"
}

# --- one rank
ranks=1 reference=ref done_kills=0
for i in 0 1 2 3; do
    kills ${stages[i]} $(((KILLS + 3 - i) / 4))
done
[ $done_kills = "$KILLS" ] || fail "$done_kills kills instead of $KILLS"

# --- at every point of the second save: from N or from N-1, never from neither
for stage in sft ppo; do
    arrays=$("$bin/rhetor-ckpt" show ref/$stage --arrays | grep -c ' f32 ')
    for point in begin:2 array:$((arrays + 10)) written:2 verified:2 renamed:2 committed:2; do
        dir=save-$stage-${point%:*}
        command_of $stage "$dir"
        RHETOR_FAULT=ckpt_save.${point%:*}:0:${point#*:}:kill "${command[@]}" >kill.out 2>&1 &
        wait $! 2>/dev/null # in the background, or the shell tells of the kill
        [ $? = 137 ] || fail "$stage was not killed at ckpt_save.$point: $(cat kill.out)"
        finish $stage "$dir"
        [ "$(cat "$dir"/log.txt | grep -c 'resuming at step')" = 1 ] || fail "$dir did not resume"
    done
done

# --- asked to stop, or the terminal hung up: saved, 75, and on
command_of pretrain stopped
for signal in TERM HUP; do
    rm -rf stopped
    "${command[@]}" train.steps=100000 >stop.out 2>&1 &
    until grep -qs '"step": 5,' stopped/metrics.jsonl; do sleep 0.05; done
    kill -$signal $!
    wait $!
    [ $? = 75 ] || fail "SIG$signal: expected 75: $(cat stop.out)"
    expect 0 '"state": "stopped"' '"code": 75' -- cat stopped/status.json
done
# who reads the log goes away
rm -rf stopped
set -o pipefail
"${command[@]}" run.log_every=1 2>&1 | head -n 1 >stop.out || fail "a closed log ended the run"
expect 0 '"state": "done"' -- cat stopped/status.json
identical ref/pretrain stopped

# --- two ranks
ranks=2 reference=ref2
for stage in "${stages[@]}"; do
    command_of $stage ref2/$stage
    must "${command[@]}"
done
kills pretrain 2
kills ppo 2
