#!/bin/bash
# /ROOT/configs/tiny, seed 1: step ppo. Rewritten by rhetor-submit each time.
# run.deadline is cluster.lead before the end: the stage saves and leaves with 75, and
# rhetor-pipeline has PBS put this job back (qrerun; where that is not for users, this script is
# submitted again and the next job made to wait for it).
#PBS -N ppo
#PBS -l select=2:ncpus=32:mpiprocs=2:ompthreads=16
#PBS -l place=scatter
#PBS -l walltime=26:30:00
#PBS -q long
#PBS -A team7
#PBS -r y
#PBS -V
#PBS -j oe
#PBS -o runs/tiny/jobs/ppo.out

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=16
launch="mpirun -n 4 --map-by ppr:2:node:PE=16 --bind-to core -x OMP_NUM_THREADS -x RHETOR_LIFE --hostfile $PBS_NODEFILE"
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job ppo --only ppo --launch "$launch" ppo:run.deadline=95160
