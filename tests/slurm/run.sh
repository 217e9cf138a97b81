#!/bin/bash
# run.sh: rhetor-submit on a real Slurm of two nodes on this machine (cluster.sh). make test-slurm.
#
# The chain of configs/tiny, made long enough, runs as jobs over both nodes. It is preempted (with
# and without warning), warned that its time is up, cancelled in the middle and submitted again; the
# weights of all four stages have to be those, bit by bit, of one uninterrupted run of the same
# layout under mpirun.
#
# Leaves with 0 (passed, or skipped with the reason), 1 (failed). Waits for events, each with a
# deadline, and ends within SLURM_TEST_SECONDS (1500) in any case; the log is build/slurm.log.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$root/bin
log=$root/build/slurm.log
if [ -z "${SLURM_TEST_INSIDE:-}" ]; then
    mkdir -p "$root/build"
    SLURM_TEST_INSIDE=1 timeout -k 60 "${SLURM_TEST_SECONDS:-1500}" "$0" 2>&1 </dev/null | tee "$log"
    status=${PIPESTATUS[0]}
    [ "$status" != 124 ] || echo "slurm: not finished within ${SLURM_TEST_SECONDS:-1500} s" | tee -a "$log"
    [ "$status" = 0 ] || status=1
    exit "$status"
fi

skip() {
    echo "slurm: skipped: $*"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "the nodes' daemons need root"
"$root/tools/deps.sh" slurm-wlm munge || skip "slurm-wlm and munge cannot be installed here"
for program in munged slurmctld slurmd srun; do
    command -v $program >/dev/null || skip "$program is not in PATH"
done
[ "$(df --output=avail -k "${TMPDIR:-/tmp}" | tail -n 1)" -gt 200000 ] || skip "less than 200 MB in ${TMPDIR:-/tmp}"

work=$(mktemp -d "${TMPDIR:-/tmp}/rhetor-slurm.XXXXXX")
. "$root/tests/slurm/cluster.sh"
began=$SECONDS
say() { printf '%3d s  %s\n' $((SECONDS - began)) "$*"; }
child=
failed=0
end() {
    local status=$?
    trap '' INT TERM HUP
    [ -z "$child" ] || kill "$child" 2>/dev/null
    [ $status = 0 ] && [ $failed = 0 ] || evidence
    cluster_stop
    rm -rf "$work"
}
evidence() {
    for file in "$work"/runs/tiny/jobs/*.out "$cluster"/log/*.log; do
        [ -s "$file" ] && printf -- '--- %s\n' "${file#"$work"/}" && tail -n 25 "$file"
    done
    timeout 10 squeue
    timeout 10 "$bin/rhetor-pipeline" "${recipe[@]}" --status
}
trap end EXIT
trap 'exit 1' INT TERM HUP
fail() {
    echo "FAILED: $*"
    failed=1
    exit 1
}
# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2
    shift 2
    until_true "$seconds" "$@" || fail "$what: not within $seconds s"
}
# wait_step STAGE STEP: the same, but it gives up at once when no job is left
wait_step() {
    until_true 240 eval "at_step $1 $2 || empty"
    at_step "$1" "$2" || fail "step $2 of $1 was not reached"
}
empty() { local jobs; jobs=$(squeue -h) && [ -z "$jobs" ]; } # not where Slurm does not answer

cd "$work" || exit 1
export OMP_WAIT_POLICY=passive OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl_tcp_if_include=lo
# A step of the jobs takes as long as a save, so that we find a stage in its middle on a fast machine,
# too. How often is saved changes no result.
settings=(pretrain:train.steps=120 pretrain:eval.every=40 sft:train.steps=100 reward:train.steps=120 ppo.episodes=768)
recipe=("$root/configs/tiny" "${settings[@]}" save.every=1)

# --- the run without any of it
say "one run without interruption, 2 ranks under mpirun"
OMP_NUM_THREADS=1 "$bin/rhetor-pipeline" "${recipe[@]}" save.every=0 --run reference --ranks 2 >reference.out 2>&1 &
child=$!
wait $child || { cat reference.out && fail "the reference ended with $?"; }
child=

# --- the cluster
cluster_start "$work/slurm" || fail "Slurm does not start"
say "$(slurmctld -V), nodes n1 and n2"
cat >cluster.yaml <<'YAML'
cluster:
  nodes: 2
  ranks_per_node: 1
  threads: 1
  time: 30
  partition: low
  prologue: |
    echo "prologue on $(hostname), nodes $SLURM_JOB_NODELIST"
YAML

all_done() { [ "$("$bin/rhetor-pipeline" "${recipe[@]}" --status | grep -c ' done ')" = 12 ]; }
submit() { "$bin/rhetor-submit" --cluster cluster.yaml "${recipe[@]}" >submit.out 2>&1; }
job_of() { awk -F'"' -v name="$1" '$2 == "id" { id = $4 } $2 == "name" && $4 == name { print id }' runs/tiny/jobs/jobs.json; }
state() { squeue -h -j "$1" -o %T 2>/dev/null; }
step() { tail -n 1 "runs/tiny/$1/metrics.jsonl" 2>/dev/null | sed -n 's/{"step": \([0-9]*\),.*/\1/p'; }
lives() { sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p" "runs/tiny/jobs/$1.lives.json" 2>/dev/null; }
at_step() { local s; s=$(step "$1") && [ -n "$s" ] && [ "$s" -ge "$2" ]; }
ended() { local now; now=$(state "$1") && [ -z "$now" ]; }
# A stage is held in its middle while Slurm is asked to do something to it, however late Slurm does
# it: its ranks are stopped, and go on when they have the signal. (With SIGTERM Slurm sends SIGCONT.)
ranks_of() { # STAGE
    local pid
    for pid in $(pgrep -x "rhetor-$1"); do
        [ "$(readlink "/proc/$pid/cwd")" != "$work" ] || echo "$pid"
    done
}
hold() { # STAGE: 1 where it has ended
    local ranks
    ranks=$(ranks_of "$1")
    [ "$(wc -w <<<"$ranks")" = 2 ] && kill -STOP $ranks
}
signalled() { # STAGE: its ranks have SIGUSR1 or SIGTERM before them, or go on, or are gone
    local pid
    for pid in $(ranks_of "$1"); do
        awk '/^State:/ { stopped = $2 == "T" } /^ShdPnd:/ { mask = $2 }
            END { exit !stopped || mask ~ /[4-7c-f]...$/ || mask ~ /[2367abef]..$/ }' "/proc/$pid/status" && return 1
    done
    return 0
}
let_go() { # STAGE
    wait_for 150 "Slurm's signal to $1" signalled "$1"
    kill -CONT $(ranks_of "$1") 2>/dev/null
}
# A job that was put back waits for about two minutes before Slurm looks at it again. It is let go
# earlier, but not before the earlier life has left both nodes (its step would have the same PMIx
# socket), and not in the second of its end: a credential of that second counts as revoked with it
# ("Job credential revoked"), and Slurm gives the job up.
hurry() {
    local start
    ls "$work"/slurm/spool-n?/stepd.slurm.pmix."$1".* 2>/dev/null && return
    start=$(date -d "$(scontrol show job "$1" | sed -n 's/.* *StartTime=\([^ ]*\).*/\1/p')" +%s) || return
    [ "$start" -le $(($(date +%s) + 10)) ] || scontrol update "jobid=$1" StartTime=now+2
}
started() { # STAGE N: its job has begun N lives
    [ "$(lives "$1" starts)" = "$2" ] && return
    hurry "$(job_of "$1")"
    return 1
}

restarts() { scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }
next_life() { started "$1" "$3" || ended "$2"; }

preemptions=0
# preempt STAGE STEP HOW: a job of partition high takes both nodes when the stage is there. Where the
# stage has ended by then, nothing is counted.
preempt() {
    local stage=$1 job lives before high at
    wait_step "$stage" "$2"
    job=$(job_of "$stage")
    lives=$(lives "$stage" starts)
    before=$(restarts "$job")
    hold "$stage" || { say "$stage had ended before it was preempted" && return; }
    high=$(sbatch --parsable -p high -N 2 --ntasks-per-node=1 -t 1 -o high.out --wrap true) || fail "sbatch: the job of partition high"
    at=$(step "$stage")
    let_go "$stage"
    wait_for 150 "the job of partition high" ended "$high"
    wait_for 150 "the next life of $stage" next_life "$stage" "$job" $((lives + 1))
    [ "$(lives "$stage" starts)" != "$lives" ] || { say "$stage ended instead of being preempted" && return; }
    [ "$(restarts "$job")" = $((before + 1)) ] || fail "Slurm has not restarted job $job"
    preemptions=$((preemptions + 1))
    say "preemption $preemptions, $3: $stage at step $at; job $job starts over"
}

# --- the chain
submit || { cat submit.out && fail "rhetor-submit"; }
cat submit.out
submit && fail "a second chain was submitted into the same folder"
grep -q "is submitted already" submit.out || fail "$(cat submit.out)"

preempt pretrain 5 "warned by SIGUSR1"
scontrol update PartitionName=low GraceTime=0
preempt sft 5 "without warning"

wait_step reward 5
hold reward || fail "reward has ended"
scancel --signal=USR1 "$(job_of reward)" # what Slurm sends before the end of the time
let_go reward
wait_for 150 "the next life of reward" started reward 2
say "time is up: reward at step $(step reward), put back by rhetor-pipeline, starts over"
[ "$(lives reward requeues)" = 1 ] || fail "reward's job was not put back by itself"

wait_step ppo 1
hold ppo || fail "ppo has ended"
"$bin/rhetor-pipeline" "${recipe[@]}" --status
scancel $(sed -n 's/.*"id": "\([0-9]*\)".*/\1/p' runs/tiny/jobs/jobs.json)
let_go ppo
wait_for 150 "the cancelled chain to end" empty
say "cancelled: ppo at step $(step ppo)"
submit || { cat submit.out && fail "rhetor-submit after scancel"; }
cat submit.out
[ "$(grep -cE '^  [0-9]+ ' submit.out)" = 2 ] || fail "more than the stopped stage and the one after it were submitted again"
wait_for 150 "ppo's job" started ppo 2
preempt ppo $(($(step ppo) + 1)) "without warning"
scontrol update PartitionName=low GraceTime=60
while [ $preemptions -lt 3 ] && ! all_done; do
    preempt ppo $(($(step ppo) + 1)) "warned by SIGUSR1"
done

wait_for 150 "the end of the chain" all_done
wait_for 150 "the last job to leave" empty
"$bin/rhetor-pipeline" "${recipe[@]}" --status

grep -hE 'saved at step|going on:|resuming at|goes back|put back' runs/tiny/jobs/*.out | cut -c 1-150

# --- a folder whose name means something to Slurm and to the shell
mkdir -p odd
cat >odd/pipeline.yaml <<'YAML'
steps:
  - name: only
    run: echo "job $SLURM_JOB_ID" >"${RUN}/result"
YAML
odd="runs/it's a %j, 100%"
"$bin/rhetor-submit" --cluster cluster.yaml odd --run "$odd" >submit.out 2>&1 || { cat submit.out && fail "rhetor-submit into $odd"; }
wait_for 150 "the job in $odd" test -s "$odd/result"
wait_for 150 "its job to leave" empty
grep -q "step done, 1 of them now" "$odd/jobs/only.out" || fail "no output in $odd/jobs: $(find runs -name '*.out')"

# --- bit by bit
for stage in pretrain sft dpo reward ppo grpo; do
    "$bin/rhetor-ckpt" diff "reference/$stage" "runs/tiny/$stage" >diff.out 2>&1 || fail "$stage differs: $(cat diff.out)"
    grep -q "are bit-identical" diff.out && ! grep -q "^counters" diff.out || fail "$stage: $(cat diff.out)"
    cmp "reference/$stage/metrics.jsonl" "runs/tiny/$stage/metrics.jsonl" || fail "$stage: metrics differ"
    say "$stage: $(tail -n 1 diff.out)"
done
for file in samples.jsonl ranked.jsonl; do cmp "reference/$file" "runs/tiny/$file" || fail "$file differs"; done
[ $preemptions -ge 3 ] || fail "$preemptions preemptions"
say "slurm: passed: $preemptions preemptions, 1 end of time, 1 cancel and resubmission; all weights bit-identical"
