#!/bin/bash
# /ROOT/configs/tiny, seed 1: steps sample, rank. Rewritten by rhetor-submit each time.
# Commands start over when they are interrupted; one that exceeds its time fails.
#PBS -N sample
#PBS -l select=1:ncpus=16:mpiprocs=1:ompthreads=16
#PBS -l place=scatter
#PBS -l walltime=26:30:00
#PBS -q long
#PBS -A team7
#PBS -r y
#PBS -V
#PBS -j oe
#PBS -o runs/tiny/jobs/sample.out

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=16
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job sample --from sample --until rank
