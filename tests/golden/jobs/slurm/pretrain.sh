#!/bin/bash
# /ROOT/configs/tiny, seed 1: step pretrain. Rewritten by rhetor-submit each time.
# Slurm's SIGUSR1 comes cluster.lead before the end (and before a preemption, where the
# site sends it): the stage saves and leaves with 75, and rhetor-pipeline has Slurm put this job
# back (scontrol requeue).
#SBATCH --job-name=tiny.pretrain
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=8
#SBATCH --time=48:00:00
#SBATCH --partition=long
#SBATCH --account=team7
#SBATCH --signal=USR1@240
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=runs/tiny/jobs/pretrain.out
#SBATCH --constraint=avx512

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=8
export SRUN_CPUS_PER_TASK=8
launch='srun --mpi=pmix --cpu-bind=cores --kill-on-bad-exit=1 --wait=60'
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job pretrain --only pretrain --launch "$launch"
