#!/bin/bash
# run.sh: what must hold when things fail: docs/RELIABILITY.md, row by row, on configs/tiny, with the
# programs that ship. `make test-faults` runs all of it, make test the quick tier.
#   FAULTS=quick|full   T='ROW...' CASE='part of its words' (only these)   SEED=1   KILLS=200 (quick: 8)
#   FLIPS=10000 (quick: 1000)   JOBS=1 (quick: 3), rows at a time: hangs and mpirun wait
# Every failure prints its seed and a command that repeats it, and leaves the folder it needs. The
# last line is "N passed, N failed[, N skipped]".
set -u
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${RHETOR_BIN:-}" ]; then # not started by tests/run.sh: the same surroundings
    export RHETOR_ROOT=${here%/tests/faults}
    export RHETOR_BIN=$RHETOR_ROOT/bin OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
    ulimit -c 0
    own=$(mktemp -d "${TMPDIR:-/tmp}/rhetor-test.XXXXXX") && cd "$own" || exit 2
fi
. "$here/../e2e/lib.sh"
FAULTS=${FAULTS:-full} T=${T:-} SEED=${SEED:-1}
export -n SEED # of the failures: the recipes have their own, as the reference has
case $FAULTS in
quick) KILLS=${KILLS:-8} FLIPS=${FLIPS:-1000} JOBS=${JOBS:-3} ;;
full) KILLS=${KILLS:-200} FLIPS=${FLIPS:-10000} JOBS=${JOBS:-1} ;;
*) echo "FAULTS=$FAULTS: expected quick or full" >&2 && exit 64 ;;
esac
quick() { [ "$FAULTS" = quick ]; }
stages=(pretrain sft dpo reward ppo grpo)
HANG=2 # dist.hang_seconds where something hangs
# Of four samples a prompt hardly a group of tiny's has a signal, which is no work for two ranks.
grpo_settings=(grpo.samples=8)

# --- cases -------------------------------------------------------------------------------------------
row='' number=0 dir='' passed=0 failed=0 skipped=0

# try WORDS FUNCTION [ARG...]: one case, in a shell of its own, so that `fail` ends it alone. $dir is
# its run directory. It may leave in `cases` how many it stands for.
try() {
    local words=$1 status=0
    shift
    [[ $words == *"${CASE:-}"* ]] || return 0
    number=$((number + 1)) dir=$row$number ranks=1
    echo 1 >cases
    : >repeat
    ("$@") >try.out 2>&1 || status=$?
    case $status in
    0) passed=$((passed + $(cat cases))) && rm -rf "$dir"* ;;
    77)
        skipped=$((skipped + 1))
        echo "skipped: $row: $words: $(tail -n 1 try.out)"
        ;;
    *)
        failed=$((failed + 1))
        echo "FAILED: $row: $words (SEED=$SEED)"
        tail -n 12 try.out | sed 's/^/     | /'
        [ ! -s repeat ] || echo "     repeat: cd $PWD && RUN=ref $(cat repeat)"
        echo "     all of it: make test-faults FAULTS=$FAULTS T=$row CASE='$words' SEED=$SEED"
        ;;
    esac
}

# command_of STAGE [key=value...]: the stage of the recipe in $dir, on $ranks; to `command`, `stage`
command_of() {
    stage=$1
    command=("$bin/rhetor-$1" "$tiny/$1.yaml" "run.dir=$dir" "${@:2}")
    [ "$1" != grpo ] || command+=("${grpo_settings[@]}")
    [ "$ranks" = 1 ] || command=(mpirun -n "$ranks" --oversubscribe --bind-to none "${command[@]}")
}

# run CODE [FAULT]: `command` with that fault leaves with CODE; its output is in $dir.out. A failure
# of ours (64 and above, but 75) is reported in one line.
run() {
    local status=0 said
    printf 'RHETOR_FAULT=%s %s\n' "${2:-}" "${command[*]}" >repeat
    RHETOR_FAULT=${2:-} timeout -k 5 300 "${command[@]}" >"$dir.out" 2>&1 || status=$?
    [ $status = "$1" ] || fail "left with $status, expected $1: $(tail -n 20 "$dir.out")"
    case $1 in 65 | 70 | 74 | 78)
        said=$(grep -c "^rhetor-$stage: " "$dir.out")
        [ "$said" = 1 ] || fail "expected one message, found $said: $(cat "$dir.out")"
        ;;
    esac
}

# says TEXT...: the last run did
says() {
    local text
    for text; do
        grep -qE -- "$text" "$dir.out" || fail "does not say \"$text\": $(cat "$dir.out")"
    done
}

# The ranks of this case's job: the processes that run the program in its folder.
processes() { pgrep -f -- "^$bin/rhetor-$stage .*run.dir=$dir( |\$)"; }
all_gone() {
    local seconds=5 # as promised; a machine that has other tests to run gets more
    quick && seconds=60
    for _ in $(seq $((10 * seconds))); do
        [ -n "$(processes)" ] || return 0
        sleep 0.1
    done
    fail "$seconds s after the end others live on: $(processes)"
}

# finish: runs it to its end, which must be that of the run that was left alone
finish() {
    run 0
    identical ref/$stage "$dir"
    must "$bin/rhetor-ckpt" verify "$dir"
    no_temporaries "$dir"
    cmp -s ref/$stage/metrics.jsonl "$dir/metrics.jsonl" || fail "its metrics are not those of ref/$stage"
}

# last_is_good: the newest checkpoint is what the run that was left alone had at that step
last_is_good() {
    local newest
    newest=$(ls "$dir"/checkpoints/step_????????.json 2>/dev/null | tail -n 1)
    [ -n "$newest" ] || return 0
    newest=$(basename "${newest%.json}.h5")
    must "$bin/rhetor-ckpt" verify "$dir/checkpoints/$newest"
    identical "ref/$stage/checkpoints/$newest" "$dir/checkpoints/$newest"
}

# --- kill -9 at random moments -------------------------------------------------------------------------
# kill_at SECONDS: kills one of the ranks then, which ends the others. 1: it was done before.
kill_at() {
    local victims pid status
    printf '%s & sleep %s; kill -9 one of its ranks\n' "${command[*]}" "$1" >repeat
    "${command[@]}" >>"$dir.out" 2>&1 &
    pid=$!
    sleep "$1"
    mapfile -t victims < <(processes)
    [ ${#victims[@]} = 0 ] || kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null
    wait $pid 2>/dev/null
    status=$?
    all_gone
    [ $status != 0 ] # mpirun hands the kill on, as 137
}

# kills STAGE RANKS COUNT SEED: spread over the time that the stage takes
kills() {
    local n=0 at span began=$EPOCHREALTIME
    ranks=$2 RANDOM=$4
    command_of "$1"
    if quick; then
        span=$(sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p' "ref/.pipeline/$1.json")
    else
        finish # the same run once more: the same bytes
        span=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
        rm -rf "$dir"
    fi
    while [ $n -lt "$3" ]; do
        at=$(awk -v s="$span" -v r=$RANDOM 'BEGIN { printf "%.3f", s * r / 32768 }')
        if kill_at "$at"; then
            n=$((n + 1))
        else
            finish # it had ended: compare, start over
            rm -rf "$dir"
        fi
    done
    finish
    echo "$3" >cases
}
row_kills() {
    local i n
    n=$(((KILLS * 6 / 10 + ${#stages[@]} - 1) / ${#stages[@]}))
    for i in "${!stages[@]}"; do
        try "$n kills of ${stages[i]}" kills ${stages[i]} 1 $n $((SEED + i))
    done
    if quick; then
        try "kills of ppo on 2 ranks" kills ppo 2 2 "$SEED"
    else
        n=$(((KILLS * 4 / 10 + ${#stages[@]} - 1) / ${#stages[@]}))
        for i in "${!stages[@]}"; do
            try "$n kills of ${stages[i]} on 2 ranks" kills ${stages[i]} 2 $n $((SEED + i))
        done
    fi
}

# --- the save protocol ---------------------------------------------------------------------------------
# Every point that checkpoints/ has: of the arrays, one in the middle.
points=$(grep -oh 'fault_point("ckpt_save\.[a-z_]*' "$root"/checkpoints/*.c | grep -o 'ckpt_save.*' | sort -u)

# point_visit POINT N: the visit of it in the N-th save
point_visit() {
    local arrays
    arrays=$("$bin/rhetor-ckpt" show ref/$stage --arrays | grep -c ' f[36][24] ')
    case $1 in
    *.array) echo $((($2 - 1) * (arrays + 3) + arrays / 2)) ;;
    *) echo "$2" ;;
    esac
}

killed_in_save() {
    ranks=$2
    command_of "$1"
    run 137 "$3:0:$(point_visit "$3" 2):kill"
    all_gone
    last_is_good
    finish
    grep -qE 'resuming at step|this run ended with step' "$dir/log.txt" ||
        fail "did not resume: neither N nor N-1 was there"
}
row_save() {
    local point s n
    for point in $points; do
        for s in "${stages[@]}"; do
            case $FAULTS,$s in quick,pretrain | quick,reward | quick,dpo | quick,ppo | quick,grpo) continue ;; esac
            try "$s killed at $point" killed_in_save "$s" 1 "$point"
        done
        quick || try "sft killed at $point on 2 ranks" killed_in_save sft 2 "$point"
    done
}

# --- a disk that is full or broken -----------------------------------------------------------------------
disk_once() {
    ranks=$2
    command_of "$1"
    run 0 "$3:0:$(point_visit "$3" 1):$4"
    says 'was not saved: .*RHETOR_FAULT asked for it.*training goes on'
    finish
}
disk_for_good() {
    ranks=$2
    command_of "$1"
    run 74 "$3:0:$(point_visit "$3" 2)+:$4"
    no_temporaries "$dir"
    last_is_good
    finish
}
row_disk() {
    local point action s
    for point in $points; do
        [ "$point" != ckpt_save.committed ] || continue # nothing can fail any more
        for action in enospc eio; do
            for s in "${stages[@]}"; do
                case $FAULTS,$s,$action in quick,pretrain,* | quick,reward,* | quick,dpo,* | quick,ppo,* | quick,grpo,* | quick,*,eio) continue ;; esac
                try "$s, $action once at $point" disk_once "$s" 1 "$point" $action
                try "$s, $action for good at $point" disk_for_good "$s" 1 "$point" $action
            done
        done
    done
    try "sft on 2 ranks, eio once" disk_once sft 2 ckpt_save.written eio
    try "sft on 2 ranks, eio for good" disk_for_good sft 2 ckpt_save.written eio
}

# A file system of that many KiB: saved or 74, no crash, whatever is there is good; with more room it
# goes on.
tmpfs() {
    local size=$1 status=0
    dir=$PWD/$dir/run
    mkdir -p "$(dirname "$dir")"
    mount -t tmpfs -o size="$size"k tmpfs "$(dirname "$dir")" || { echo "no tmpfs can be mounted here" && exit 77; }
    trap 'umount "$(dirname "$dir")"' EXIT
    command_of sft
    dir=$(dirname "$dir")/out # the output elsewhere
    RHETOR_FAULT='' timeout 300 "${command[@]}" >"$PWD/tmpfs.out" 2>&1 || status=$?
    case $status in
    0) ;;
    74) [ "$(grep -c '^rhetor-sft: ' tmpfs.out)" = 1 ] || fail "expected one message: $(cat tmpfs.out)" ;;
    *) fail "$size KiB: left with $status: $(cat tmpfs.out)" ;;
    esac
    dir=${dir%/out}/run
    [ ! -d "$dir/checkpoints" ] || last_is_good
    mount -o remount,size=64m "$(dirname "$dir")"
    "${command[@]}" >tmpfs.out 2>&1 || fail "with more room: $(cat tmpfs.out)"
    identical ref/sft "$dir"
}
# In a name space of its own, so that a kill leaves no mounts.
tmpfs_alone() {
    unshare -m true 2>/dev/null || { echo "unshare -m is not allowed here" && exit 77; }
    printf 'FAULTS=full T=tmpfs tests/faults/run.sh # size %s KiB\n' "$1" >repeat
    export -f tmpfs fail must expect identical command_of last_is_good
    export bin tiny root dir ranks
    unshare -m bash -uc "tmpfs $1"
}
row_tmpfs() {
    local size sizes
    sizes=$(seq 16 400 6000)
    quick && sizes='64 3000'
    for size in $sizes; do try "$size KiB" tmpfs_alone "$size"; done
}

# --- damaged files ---------------------------------------------------------------------------------------
# damage FILE HOW
damage() {
    local size
    size=$(stat -c %s "$1")
    case $2 in
    flip) printf '\377' | dd of="$1" bs=1 seek=$((size / 2)) conv=notrunc status=none ;;
    cut) truncate -s $((size / 2)) "$1" ;;
    empty) : >"$1" ;;
    gone) rm "$1" ;;
    esac
}
newest() { ls "$dir"/checkpoints/step_????????"$1" | tail -n 1; }

# saved_twice STAGE: $dir is a run that was killed after its second save
saved_twice() {
    local one=$dir
    dir=twice-$1
    command_of "$1"
    [ -d "$dir" ] || run 137 "ckpt_save.committed:0:2:kill"
    cp -r "$dir" "$one"
    dir=$one
    command_of "$1"
}
damaged_checkpoint() {
    local file
    saved_twice "$1"
    file=$(newest "$3")
    damage "$file" "$2"
    finish
    grep -q "$(basename "${file%.*}").*" "$dir/log.txt" || fail "does not name $file: $(cat "$dir/log.txt")"
    [ "$2" = gone ] || grep -q "warning: .*$(basename "${file%.*}")" "$dir/log.txt" || fail "no warning: $(cat "$dir/log.txt")"
}
all_damaged() {
    local file
    saved_twice "$1"
    for file in "$dir"/checkpoints/*.h5; do damage "$file" flip; done
    run 65
    says "$dir/checkpoints"
}
damaged_parent() {
    cp -r ref/pretrain "$dir"
    damage "$(newest .h5)" flip
    for file in "$dir"/checkpoints/*.h5; do damage "$file" flip; done
    stage=sft command=("$bin/rhetor-sft" "$tiny/sft.yaml" run.dir="$dir.child" from.model="$dir")
    run 65
    says "$dir"
}
damaged_corpus() {
    cp ref/train.h5 "$dir.h5"
    damage "$dir.h5" "$1"
    command_of "$2" "data.$3=$dir.h5"
    run 65
    says "$dir.h5"
}
flips() {
    [ -x "$1" ] || { echo "not built: make $1" && exit 77; }
    echo "SEED=$SEED FLIPS=$FLIPS $1" >repeat
    FLIPS=$FLIPS SEED=$SEED "$1" || fail "a damage went unnoticed, or crashed its reader"
    echo "$FLIPS" >cases
}
row_damage() {
    local how s
    for s in "${stages[@]}"; do
        quick && [ "$s" != sft ] && continue
        for how in flip cut empty; do
            try "$s: newest checkpoint: $how" damaged_checkpoint "$s" $how .h5
            try "$s: newest manifest: $how" damaged_checkpoint "$s" $how .json
        done
        try "$s: newest checkpoint: gone" damaged_checkpoint "$s" gone .h5
        try "$s: all checkpoints" all_damaged "$s"
    done
    try "the parent" damaged_parent
    for how in flip cut empty; do
        try "corpus of pretraining: $how" damaged_corpus $how pretrain train
        try "corpus of SFT: $how" damaged_corpus $how sft mix
    done
    quick || try "$FLIPS damages" flips "$root/build/release/tests/faults/test_flips" # make test runs it by itself
}

# --- NaN, spikes, drift ----------------------------------------------------------------------------------
# after STAGE: an update soon after the first save
after() {
    case $1 in pretrain) echo 8 ;; ppo) echo 17 ;; grpo) echo 9 ;; *) echo 4 ;; esac
}
nan_once() {
    ranks=$2
    command_of "$1"
    run 0 "gradient:$3:$(after "$1"):nan"
    says 'gradient of (step|iteration) .* is not finite: this update is skipped, the weights are as before \(1 in a row'
    [ "$(grep -c 'is not finite' "$dir.out")" = 1 ] || fail "more than one message: $(cat "$dir.out")"
    must "$bin/rhetor-ckpt" verify "$dir"
    ! grep -q '"loss": null' "$dir/metrics.jsonl" || fail "the loss is not finite later on"
}
nan_for_good() {
    ranks=$2
    command_of "$1" optim.max_skips=1
    run 70 "gradient:$3:$(after "$1")+:nan"
    says "^rhetor-$1: 2 gradients in a row were not finite, the last of (step [0-9]+ \([a-z]+ [0-9]+\.\.|iteration [0-9]+, inner epoch)"
    grep -q '"code": 70' "$dir/status.json" || fail "$(cat "$dir/status.json")"
    last_is_good # so the weights were never touched: equal bytes
    command_of "$1"
    finish
}
row_nan() {
    local s
    for s in "${stages[@]}"; do
        quick && [ "$s" != ppo ] && [ "$s" != reward ] && continue
        try "$s, once" nan_once "$s" 1 0
        try "$s on 2 ranks, rank 1, once" nan_once "$s" 2 1
        quick || try "$s, for good" nan_for_good "$s" 1 0
        try "$s on 2 ranks, rank 1, for good" nan_for_good "$s" 2 1
    done
}

# The same spikes are skipped whether the run was interrupted or not.
spikes() {
    # a loss that goes neither up nor down, so that much of it counts as a spike
    local more=(optim.skip_zscore=0.5 optim.lr=1e-5 train.steps=60) one=$dir
    command_of "$1" "${more[@]}"
    run 0
    dir=$one-again
    command_of "$1" "${more[@]}"
    run 137 "ckpt_save.committed:0:$2:kill"
    grep -q 'standard deviations above' "$dir/log.txt" || fail "no spike before the kill"
    run 0
    sed '1,/resuming at step/d' "$dir/log.txt" | grep -q 'standard deviations above' || fail "no spike after the kill"
    identical "$one" "$dir"
    cmp -s "$one/metrics.jsonl" "$dir/metrics.jsonl" || fail "other decisions after the resume"
}
row_spikes() {
    try "pretrain" spikes pretrain 6
    try "sft" spikes sft 14
    quick || try "reward" spikes reward 14
}

# At the last update before a save: a further one may round the lowest bit away again.
drift() {
    local update=6
    ranks=$2
    command_of "$1" "${@:4}"
    case $1 in pretrain) update=14 ;; ppo) update=17 ;; grpo) update=16 ;; esac
    run 70 "weights:$3:$update:flip"
    says "^rhetor-$1: step [0-9]+: the ranks have diverged: [a-z/]*params/[^ ]+ of rank 1 .* differs from that of rank 0"
    grep -q '"code": 70' "$dir/status.json" || fail "$(cat "$dir/status.json")"
    last_is_good
    command_of "$1"
    finish
}
row_drift() {
    local s
    try "sft, found between saves" drift sft 2 1 save.every=1000 dist.check_every=2
    for s in "${stages[@]}"; do
        quick && [ "$s" != ppo ] && continue
        try "$s, found before the save" drift "$s" 2 1
    done
    quick || try "three ranks, 2 of them right" drift_of_three
}
drift_of_three() {
    ranks=3
    command_of sft
    run 70 "weights:0:6:flip"
    says "diverged: params/[^ ]+ of rank 0 .* differs from that of rank 1"
    last_is_good
    finish
}

# --- ranks that die or hang --------------------------------------------------------------------------------
phases_of() {
    case $1 in
    pretrain) echo start step data forward exchange update eval save ;;
    sft) echo start step forward exchange update eval save ;;
    reward) echo start step forward exchange update save ;;
    dpo) echo start step forward exchange update eval score save ;;
    ppo | grpo) echo start step forward exchange update rollout score save ;;
    esac
}
# visit PHASE: one in the middle
visit() {
    case $1 in start | eval | save | rollout | score) echo 1 ;; *) echo 2 ;; esac
}

dies() { # STAGE PHASE RANK kill|exit
    local code=137
    [ "$4" = kill ] || code=70
    ranks=2
    command_of "$1"
    printf 'RHETOR_FAULT=%s %s\n' "$2:$3:$(visit "$2"):$4" "${command[*]}" >repeat
    local status=0
    RHETOR_FAULT=$2:$3:$(visit "$2"):$4 timeout -k 5 300 "${command[@]}" >"$dir.out" 2>&1 || status=$?
    all_gone
    [ $status = $code ] || fail "left with $status, expected $code: $(cat "$dir.out")"
    [ "$(grep -cE "^rhetor-$1: |warning: MPI" "$dir.out")" = 0 ] || fail "the others speak, too: $(cat "$dir.out")"
    [ "$(grep -cE 'exited on signal 9|non-zero (status|exit code)|Exit code: *70' "$dir.out")" -ge 1 ] || fail "mpirun says nothing: $(cat "$dir.out")"
    last_is_good
    ranks=1 # its machine is gone: the rest goes on alone
    command_of "$1"
    finish
}
row_dies() {
    local s phase
    if quick; then
        try "sft, in exchange" dies sft exchange 1 kill
        try "sft, in save" dies sft save 0 exit
        return
    fi
    for s in "${stages[@]}"; do
        for phase in $(phases_of "$s"); do
            try "$s, rank 1 killed in $phase" dies "$s" "$phase" 1 kill
            try "$s, rank 0 leaves in $phase" dies "$s" "$phase" 0 exit
        done
    done
}

hangs() { # STAGE PHASE RANKS RANK
    ranks=$3
    command_of "$1" dist.hang_seconds=$HANG
    run 70 "$2:$4:$(visit "$2"):hang"
    all_gone
    says "^rhetor-$1: rank $4 hangs in phase $2: no sign of life for [0-9]+ s" 'libc\.so.*pause|pause\+'
    grep -q "\"code\": 70, \"reason\": \"rank $4 hangs in phase $2" "$dir/status.json" ||
        [ "$2" = start ] || fail "$(cat "$dir/status.json")"
    last_is_good
    command_of "$1"
    finish
}
# A rank that cannot speak: stopped, as on a machine that is gone.
stopped_rank() {
    local pid status=0 victim
    ranks=2
    command_of pretrain dist.hang_seconds=$HANG train.steps=100000
    "${command[@]}" >"$dir.out" 2>&1 &
    pid=$!
    until grep -qs '"step": 5,' "$dir/metrics.jsonl"; do sleep 0.05; done
    for victim in $(processes); do # rank 1
        grep -zq '^OMPI_COMM_WORLD_RANK=1$' "/proc/$victim/environ" && kill -STOP "$victim"
    done
    wait $pid || status=$?
    [ $status = 70 ] || fail "left with $status: $(cat "$dir.out")"
    says '^rhetor-pretrain: rank 0 is waiting for others in phase [a-z]+, (MPI_[A-Za-z]+|exchange_wait), for'
    all_gone
}
row_hangs() {
    local s phase
    if quick; then
        try "reward, in forward" hangs reward forward 1 0
        try "sft on 2 ranks, in exchange" hangs sft exchange 2 1
        try "ppo, in rollout" hangs ppo rollout 1 0
        return
    fi
    for s in "${stages[@]}"; do
        for phase in $(phases_of "$s"); do
            try "$s, in $phase" hangs "$s" "$phase" 1 0
            try "$s on 2 ranks, rank 1 in $phase" hangs "$s" "$phase" 2 1
        done
        try "$s on 2 ranks, rank 0 in save" hangs "$s" save 2 0
    done
    try "a rank that is stopped" stopped_rank
}

# --- two jobs in a folder ------------------------------------------------------------------------------------
two_jobs() {
    local first status=0
    ranks=$1
    command_of pretrain train.steps=100000
    "${command[@]}" >"$dir.first" 2>&1 &
    first=$!
    until grep -qs '"step": 2,' "$dir/metrics.jsonl"; do sleep 0.05; done
    command_of pretrain
    run 78
    says "belongs to process [0-9]+ on host"
    grep -q '"state": "running"' "$dir/status.json" || fail "the first one's status is gone: $(cat "$dir/status.json")"
    command_of pretrain train.steps=100000
    kill -USR1 $first
    wait $first || status=$?
    [ $status = 75 ] || fail "the first one left with $status: $(cat "$dir.first")"
    command_of pretrain
    rm -rf "$dir" # it went beyond the reference
    finish
}
# All at the same instant: one wins.
many_jobs() {
    local pids=() i status won=0 refused=0
    command_of sft
    for i in 1 2 3 4 5; do
        "${command[@]}" >"$dir.$i" 2>&1 &
        pids+=($!)
    done
    for i in 1 2 3 4 5; do
        status=0
        wait ${pids[i - 1]} || status=$?
        case $status in
        0) won=$((won + 1)) ;;
        78) refused=$((refused + 1)) ;;
        *) fail "left with $status: $(cat "$dir.$i")" ;;
        esac
    done
    [ $won -ge 1 ] || fail "none of five could run" # one that comes late finds it done
    finish
}
row_jobs() {
    try "two" two_jobs 1
    try "five at once" many_jobs
    quick || try "two, of 2 ranks" two_jobs 2
}

# --- asked to stop -------------------------------------------------------------------------------------------
signalled() { # STAGE PHASE RANKS RANK term|usr1
    local name=SIG${5^^}
    ranks=$3
    command_of "$1"
    run 75 "$2:$4:$(visit "$2"):$5"
    says "$name: saved at step [0-9]+ of [0-9]+; the same command goes on from there"
    grep -q '"state": "stopped"' "$dir/status.json" || fail "$(cat "$dir/status.json")"
    finish
}
deadline() {
    ranks=$2
    command_of "$1" run.deadline=0.000001
    run 75
    says "run.deadline: saved at step 1 of"
    command_of "$1"
    finish
}
# What a shell and a batch system send, from outside.
from_outside() {
    local status=0
    # the lowest bit of the mask of ignored signals is SIGHUP's
    [[ $1 != HUP || $(awk '/^SigIgn/ { print $2 }' /proc/self/status) != *[13579bdf] ]] ||
        { echo "started by nohup, which makes runs ignore SIGHUP" && exit 77; }
    ranks=$2
    command_of pretrain train.steps=100000
    "${command[@]}" >"$dir.out" 2>&1 &
    until grep -qs '"step": 5,' "$dir/metrics.jsonl"; do sleep 0.05; done
    kill -"$1" $!
    wait $! || status=$?
    [ $status = 75 ] || fail "left with $status: $(cat "$dir.out")"
    grep -q '"state": "stopped"' "$dir/status.json" || fail "$(cat "$dir/status.json")"
    grep -q '"code": 75' "$dir/status.json" || fail "$(cat "$dir/status.json")"
}
closed_log() {
    command_of pretrain run.log_every=1
    (set -o pipefail && "${command[@]}" 2>&1 | head -n 1 >"$dir.out") || fail "a closed log ended the run"
    identical ref/pretrain "$dir"
}
row_signals() {
    local s phase signal
    try "TERM from outside" from_outside TERM 1
    try "HUP from outside" from_outside HUP 1
    try "USR1 to mpirun" from_outside USR1 2
    try "who reads the log goes away" closed_log
    try "time limit" deadline sft 1
    if quick; then
        try "pretrain, TERM in start" signalled pretrain start 1 0 term
        try "ppo, TERM in rollout" signalled ppo rollout 1 0 term
        try "sft on 2 ranks, USR1 in save" signalled sft save 2 1 usr1
        return
    fi
    for s in "${stages[@]}"; do
        for phase in $(phases_of "$s"); do
            # PPO's second iteration is its last: what comes after its first step
            # boundary is too late. SFT's only evaluation belongs to its last step.
            case $s,$phase in ppo,save | ppo,step | grpo,save | grpo,step | sft,eval) continue ;; esac
            for signal in term usr1; do
                try "$s, $signal in $phase" signalled "$s" "$phase" 1 0 $signal
                try "$s on 2 ranks, $signal for rank 1 in $phase" signalled "$s" "$phase" 2 1 $signal
            done
        done
        try "time limit of $s on 2 ranks" deadline "$s" 2
    done
}

# --- memory that does not suffice --------------------------------------------------------------------------
refused() { # STAGE RANKS LIMIT [KIB]
    local large=(train.batch=1000000000)
    case $1 in ppo) large=(ppo.batch=1000000000 ppo.kl=fixed) ;; grpo) large=(ppo.batch=1000000000) ;; esac
    ranks=$2
    command_of "$1" "${large[@]}" train.micro_tokens=1000000000
    (ulimit -v "${4:-unlimited}" && run 78) || exit 1
    says "the plan: [0-9]+ parameters; memory of a rank of $2 [0-9.]+ MiB: weights" \
        "^rhetor-$1: memory does not suffice: $2 ranks? on .* will take at least [0-9]+ MiB, and there are [0-9]+ \($3.*; smaller train.micro_tokens"
    grep -q '"code": 78' "$dir/status.json" || fail "$(cat "$dir/status.json")"
    [ -z "$(ls "$dir/checkpoints")" ] || fail "$(ls "$dir/checkpoints")"
    command_of "$1"
    finish
}
row_memory() {
    local s
    try "ppo on 2 ranks" refused ppo 2 .
    try "ulimit" refused pretrain 1 RLIMIT_AS 2000000
    quick && return
    for s in "${stages[@]}"; do
        try "$s" refused "$s" 1 .
        try "$s, 2 ranks" refused "$s" 2 .
    done
}

# --- all of it -----------------------------------------------------------------------------------------------
# The run that is left alone, with all its checkpoints. On more ranks it has the same bits.
must "$bin/rhetor-pipeline" "$tiny" --run ref {pretrain,sft,dpo,reward,ppo,grpo}:save.keep_last=1000 \
    "${grpo_settings[@]/#/grpo:}"
export RUN=ref

# run_row ROW: in a folder of its own, whose `counts` are what passed, failed and was skipped. What it
# printed comes in one piece.
run_row() {
    local began=$SECONDS
    row=$1
    mkdir "$row" && cd "$row" && ln -s ../ref ref || exit 2
    # Before it kills the ranks that are left mpirun gives them a second, which costs the quick tier
    # most; where they are to save they get it.
    ! quick || [ "$row" = signals ] || export OMPI_MCA_odls_base_sigkill_timeout=0
    {
        row_"$row"
        printf '%-8s %5d passed %3d failed %3d skipped %5d s\n' "$row" $passed $failed $skipped $((SECONDS - began))
    } >out
    cat out
    echo $passed $failed $skipped >counts
}

trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM HUP
began=$SECONDS rows=()
for row in hangs kills save disk tmpfs damage nan spikes drift dies jobs signals memory; do
    [[ -z $T || " $T " == *" $row "* ]] || continue
    rows+=("$row")
    if [ "$JOBS" = 1 ]; then
        (run_row "$row")
    else
        [ "$(jobs -rp | wc -l)" -lt "$JOBS" ] || wait -n
        run_row "$row" &
    fi
done
wait
[ ${#rows[@]} != 0 ] || { echo "no row is called $T" >&2 && exit 64; }

for row in "${rows[@]}"; do
    read -r p f s <"$row/counts" || fail "row $row did not come to its end"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
if [ -n "${own:-}" ] && [ $failed = 0 ]; then cd / && rm -rf "$own"; fi
echo "tier $FAULTS, seed $SEED, $((SECONDS - began)) s"
echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
[ $failed = 0 ]
