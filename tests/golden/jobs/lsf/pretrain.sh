#!/bin/bash
# /ROOT/configs/tiny, seed 1: step pretrain. Rewritten by rhetor-submit each time.
# LSF's SIGUSR1 comes cluster.lead before the end: the stage saves and leaves with 75, with
# which LSF puts this job back (-Q 75).
#BSUB -J tiny.pretrain
#BSUB -n 8
#BSUB -R "span[ptile=2]"
#BSUB -R "affinity[core(8)]"
#BSUB -W 2880
#BSUB -wt 4
#BSUB -wa USR1
#BSUB -q long
#BSUB -P team7
#BSUB -Q 75
#BSUB -r
#BSUB -ti
#BSUB -o runs/tiny/jobs/pretrain.out

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=8
launch="mpirun -n 8 --map-by ppr:2:node:PE=8 --bind-to core -x OMP_NUM_THREADS -x RHETOR_LIFE --hostfile $LSB_DJOB_HOSTFILE --mca plm_rsh_agent blaunch"
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job pretrain --only pretrain --launch "$launch" \
    pretrain:optim.lr=2e-3 'pretrain:data.train=a b.h5'
