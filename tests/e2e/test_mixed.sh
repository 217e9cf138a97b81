#!/bin/bash
# Ranks that are not alike: other kernels, another program, no common launcher, too few open files. All
# is found at the start, with the hosts' names.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
export RUN=$PWD SEED=5
tiny_data 384 --seed 5 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 40 --compare-heldout 10 --ppo 80 --eval 10
settings=(run.tensorboard=false eval.every=0 save.every=0 train.steps=2 run.threads=1)
pretrain=("$bin/rhetor-pretrain" "$tiny/pretrain.yaml" "${settings[@]}")
mpi="mpirun --oversubscribe --bind-to none"
host=$(uname -n)

# The weakest kernels are everybody's, and the bits are theirs.
RHETOR_KERNEL=plain stage pretrain 1 plain "${settings[@]}"
if grep -qw avx2 /proc/cpuinfo; then
    $mpi -n 1 "${pretrain[@]}" run.dir=mixed : -n 1 -x RHETOR_KERNEL=plain "${pretrain[@]}" run.dir=mixed \
        >mixed.out 2>&1 || fail "mixed kernels: $(cat mixed.out)"
    grep -q "$host has .* kernels, $host only plain: all ranks use these" mixed.out || fail "$(cat mixed.out)"
    identical plain mixed
fi

# OpenBLAS's bits are nobody else's.
expect 78 "$host multiplies by" "set RHETOR_KERNEL=plain on all nodes" -- \
    $mpi -n 1 -x RHETOR_KERNEL=plain "${pretrain[@]}" run.dir=blas : \
    -n 1 -x RHETOR_KERNEL=blas "${pretrain[@]}" run.dir=blas

# Another version, and another build of the same
version=$("$bin/rhetor" --version | cut -d' ' -f2)
RHETOR_FAULT=run.version:1:1:enospc expect 78 "rank 1 on $host is rhetor " \
    "rank 0 on $host is $version; install one version" -- $mpi -n 2 "${pretrain[@]}" run.dir=version
mkdir other
other=(other/rhetor-pretrain "${pretrain[@]:1}")
{ cat "$bin/rhetor-pretrain" && echo; } >other/rhetor-pretrain && chmod +x other/rhetor-pretrain
$mpi -n 1 "${pretrain[@]}" run.dir=build : -n 1 "${other[@]}" run.dir=build >build.out 2>&1 || fail "$(cat build.out)"
grep -q "the program's file on $host is not that on $host" build.out || fail "$(cat build.out)"

# Started as two ranks by a PMI that this MPI does not know
PMI_RANK=0 PMI_SIZE=2 expect 64 "each is alone: the launcher's PMI" -- "${pretrain[@]}" run.dir=alone

# Open files: too few are found at the start, and raised where that may be.
(
    ulimit -n 120
    expect 78 "2 ranks take up to 130 open files each; 120 are allowed" -- $mpi -n 2 "${pretrain[@]}" run.dir=files
)
(ulimit -Sn 120 && $mpi -n 2 "${pretrain[@]}" run.dir=files) >files.out 2>&1 || fail "$(cat files.out)"
