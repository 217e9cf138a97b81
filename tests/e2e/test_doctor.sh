#!/bin/bash
# rhetor-doctor on set-ups that will do and on broken ones: each line that is not ok, and the exit code.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
doctor=$bin/rhetor-doctor
export OMP_NUM_THREADS=1
mpi="mpirun --oversubscribe --bind-to none"

# sick CODE TEXT... -- COMMAND...: what it says is checked, however many lines
sick() {
    local code=$1 status=0
    shift
    local texts=()
    while [ "$1" != -- ]; do texts+=("$1") && shift; done
    shift
    "$@" >said 2>&1 || status=$?
    [ $status = "$code" ] || fail "$* left with $status, expected $code: $(cat said)"
    for text in "${texts[@]}"; do grep -qE -- "$text" said || fail "$* does not say \"$text\": $(cat said)"; done
}

for ranks in 1 2; do
    sick 0 "^ok +version" "^ok +folder" "^ok +open files" "^ok +clock" "^ok +OpenMP" "^ok +space" -- $mpi -n $ranks "$doctor"
    ! grep -q FAILS said || fail "$(cat said)"
    [ "$(grep -c '^ok\|^warns\|^FAILS' said)" -le 14 ] || fail "longer than a screen: $(cat said)"
done
[ ! -e .rhetor-doctor ] || fail "it left its folder"
sick 0 "^ok +ranks +2 on 1 node" "^(ok|warns) +exchange .*GB/s" -- $mpi -n 2 "$doctor"
sick 0 "^(ok|warns) +space .* for checkpoints of" "^ok +checkpoints" -- "$doctor" "$root/configs/demo"

# broken
sick 78 "^FAILS +folder .*choose another" -- "$doctor" --dir /proc
sick 78 "^FAILS +open files +100 allowed, 129 needed" -- bash -c "ulimit -n 100; exec $doctor"
sick 78 "^FAILS +ranks .*each is alone" -- env PMI_RANK=0 PMI_SIZE=2 "$doctor"
sick 78 "^FAILS +ranks .*no PMIx" -- env SLURM_STEP_NUM_TASKS=2 "$doctor"
sick 0 "^warns +kernels +plain C" -- env RHETOR_KERNEL=plain "$doctor"
sick 0 "^warns +placement" -- $mpi -n 3 "$doctor"
sick 0 "^warns +cores" "will take turns" -- env OMP_NUM_THREADS=512 "$doctor"
if grep -qw avx2 /proc/cpuinfo; then
    sick 0 "^warns +kernels .* only plain: all ranks will use these" -- \
        $mpi -n 1 "$doctor" : -n 1 -x RHETOR_KERNEL=plain "$doctor"
fi
expect 78 "nowhere" -- "$bin/rhetor-submit" nowhere --doctor --dry-run --scheduler slurm
must "$bin/rhetor-submit" "$root/configs/demo" --scheduler slurm --nodes 2 --ranks-per-node 4 --doctor --dry-run
grep -q 'exec $launch .*rhetor-doctor .*configs/demo --dir' must.out || fail "$(cat must.out)"
grep -q '^#SBATCH --nodes=2' must.out || fail "$(cat must.out)"
[ "$(grep -c '^== ' must.out)" = 1 ] || fail "more than one job: $(cat must.out)"
