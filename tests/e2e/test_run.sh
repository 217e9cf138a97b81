#!/bin/bash
# A run as a person meets it: without a YAML file, gone on with after settings were changed, and on
# a terminal.
. "$(dirname "$0")/lib.sh"
PATH=$bin:$PATH

i=0
until [ $i = 200 ]; do
    echo "{\"text\":\"the cat number $i sat on mat $((i * 7 % 50)) with the dog\"}"
    i=$((i + 1))
done >cats.jsonl
must rhetor-data tokenizer --vocab 280 --out tokenizer.json cats.jsonl
must rhetor-data encode --tokenizer tokenizer.json --out x.h5 cats.jsonl
small=(model.layers=1 model.width=16 model.heads=2 model.context=16 train.batch=4)

# --- from defaults and the command line --------------------------------------------------------------
expect 0 'runs/pretrain (run.dir is not set)' 'done: runs/pretrain' -- \
    rhetor-pretrain data.train=x.h5 "${small[@]}" train.steps=6 save.every=3
mkdir home
HOME=$PWD/home must rhetor-pretrain 'data.train=~/../x.h5' 'run.dir=~/run' "${small[@]}" train.steps=1
[ -e home/run/status.json ] || fail "~/run is not in the home folder: $(ls -R home)"
sed 's/"text":"\(.*\) sat on/"prompt":"\1 sat","completion":"on/' cats.jsonl >demos.jsonl
must rhetor-sft from.model=runs/pretrain data.train=demos.jsonl train.steps=2 train.batch=4
[ -e runs/sft/checkpoints/step_00000002.h5 ] || fail "no checkpoint in runs/sft"

# --- what multiplies is what the log and the checkpoint say -------------------------------------------
two=(data.train=x.h5 "${small[@]}" train.steps=2)
RHETOR_KERNEL=blas expect 0 'OpenBLAS' 'depend on the layout' -- rhetor-pretrain "${two[@]}" run.dir=blas
expect 0 'kernel OpenBLAS' -- rhetor-ckpt show blas
RHETOR_KERNEL=plain must rhetor-pretrain "${two[@]}" run.dir=plain
expect 0 'kernel plain kernels' -- rhetor-ckpt show plain
grep -rq OpenBLAS plain && fail "a run with our own kernels speaks of OpenBLAS"

# --- going on with other settings --------------------------------------------------------------------
again() { rhetor-pretrain data.train=x.h5 "${small[@]}" save.every=3 "$@"; }
expect 0 'this run ended with step 6: nothing is left to do' -- again train.steps=6 run.threads=1
expect 0 'this run ended with step 6, and 4 are asked for now: nothing took effect' 'train.steps: 6 -> 4' \
    'choose another run.dir' -- again train.steps=4
expect 0 'this run ended with step 6: nothing took effect' 'run.seed: 1 -> 2' 'optim.clip: 1 -> 3' -- \
    again train.steps=6 run.seed=2 optim.clip=3
grep -q '  seed: 1$' runs/pretrain/config.yaml || fail "config.yaml has settings that took no effect"
grep -q '"steps": 6$' runs/pretrain/status.json || fail "$(cat runs/pretrain/status.json)"
expect 0 'resuming at step 6 of 8' 'settings that change the result' 'run.seed: 1 -> 2' -- \
    again train.steps=8 run.seed=2
grep -q '  seed: 2$' runs/pretrain/config.yaml || fail "config.yaml lacks the settings of the last steps"
exit 0
