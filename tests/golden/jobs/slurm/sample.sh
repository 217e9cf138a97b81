#!/bin/bash
# /ROOT/configs/tiny, seed 1: steps sample, rank. Rewritten by rhetor-submit each time.
# Commands start over when they are interrupted; one that exceeds its time fails.
#SBATCH --job-name=tiny.sample
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=26:30:00
#SBATCH --partition=long
#SBATCH --account=team7
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=runs/tiny/jobs/sample.out
#SBATCH --constraint=avx512

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=16
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job sample --from sample --until rank
