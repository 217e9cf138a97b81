#!/bin/bash
# /ROOT/configs/tiny, seed 1: steps sample, rank. Rewritten by rhetor-submit each time.
# Commands start over when they are interrupted; one that exceeds its time fails.
#BSUB -J tiny.sample
#BSUB -n 1
#BSUB -R "span[ptile=1]"
#BSUB -R "affinity[core(16)]"
#BSUB -W 1590
#BSUB -q long
#BSUB -P team7
#BSUB -r
#BSUB -ti
#BSUB -o runs/tiny/jobs/sample.out

module purge
module load openmpi/4.1 # ${HOME} stays the shell's

cd /WORK || exit 74
export OMP_NUM_THREADS=16
exec /BIN/rhetor-pipeline /ROOT/configs/tiny --run runs/tiny --seed 1 \
    --job sample --from sample --until rank \
    pretrain:optim.lr=2e-3 'pretrain:data.train=a b.h5'
