#!/bin/bash
# /ROOT/configs/tiny, seed 1: step pretrain. Rewritten by rhetor-submit each time.
# run.deadline is cluster.lead before the end: the stage saves and leaves with 75, and
# rhetor-pipeline has PBS put this job back (qrerun; where that is not for users, this script is
# submitted again and the next job made to wait for it).
#PBS -N pretrain
#PBS -l select=4:ncpus=16:mpiprocs=2:ompthreads=8
#PBS -l place=scatter
#PBS -l walltime=48:00:00
#PBS -q long
#PBS -A team7
#PBS -r y
#PBS -V
#PBS -j oe
#PBS -o runs/tiny/jobs/pretrain.out

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=8
launch="mpirun -n 8 --map-by ppr:2:node:PE=8 --bind-to core -x OMP_NUM_THREADS -x RHETOR_LIFE --hostfile $PBS_NODEFILE"
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job pretrain --only pretrain --launch "$launch" pretrain:run.deadline=172560
