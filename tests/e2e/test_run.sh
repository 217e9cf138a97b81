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
HOME=$PWD/home expect 0 'step 1' -- rhetor-ckpt show '~/run'
HOME=$PWD/home must rhetor-data encode --tokenizer=~/../tokenizer.json --out=~/x.h5 '~/../cats.jsonl'
[ -e home/x.h5 ] || fail "~/x.h5 of an option is not in the home folder"
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

expect 0 ', 1 step of 1 window: ' -- rhetor-pretrain data.train=x.h5 "${small[@]}" train.batch=1 \
    train.steps=1 run.dir=one

# --- going on with other settings --------------------------------------------------------------------
again() { rhetor-pretrain data.train=x.h5 "${small[@]}" save.every=3 "$@"; }
expect 0 'this run ended with step 6: nothing is left to do' -- again train.steps=6 run.threads=1
expect 0 'this run ended with step 6, and 4 are asked for now: nothing took effect' 'train.steps: 6 -> 4' \
    'choose another run.dir' -- again train.steps=4
expect 0 'this run ended with step 6: nothing took effect' 'run.seed: 1 -> 2' 'optim.clip: 1 -> 3' -- \
    again train.steps=6 run.seed=2 optim.clip=3
grep -q '  seed: 1$' runs/pretrain/config.yaml || fail "config.yaml has settings that took no effect"
grep -q '"steps": 6,' runs/pretrain/status.json || fail "$(cat runs/pretrain/status.json)"
expect 0 'resuming at step 6 of 8' 'settings that change the result' 'run.seed: 1 -> 2' -- \
    again train.steps=8 run.seed=2
grep -q '  seed: 2$' runs/pretrain/config.yaml || fail "config.yaml lacks the settings of the last steps"

RHETOR_KERNEL=plain must rhetor-pretrain data.train=x.h5 "${small[@]}" train.steps=2 run.dir=runs/kernel
RHETOR_KERNEL=blas expect 0 'change the result:' 'plain kernels -> OpenBLAS' -- rhetor-pretrain data.train=x.h5 \
    "${small[@]}" train.steps=3 run.dir=runs/kernel

# --- on a terminal -----------------------------------------------------------------------------------
command -v script >/dev/null || {
    echo "script (bsdutils) is not installed: the terminal was not tested"
    exit 0
}
# on_terminal COLUMNS TERM COMMAND...: starts it on a terminal, whose picture is in `terminal` and whose
# keyboard is file 3
on_terminal() {
    local columns=$1 term=$2
    shift 2
    rm -f keys
    mkfifo keys
    : >terminal
    command="stty -echo cols $columns; TERM=$term $*; echo left with \$?"
    script -qefc "$command" terminal <keys >/dev/null &
    exec 3>keys
}
# shows REGEX [FILE]: waits until the terminal, or the file, has it
shows() {
    for _ in $(seq 600); do
        grep -aqs -- "$1" "${2:-terminal}" && return
        sleep 0.1
    done
    fail "the terminal does not show \"$1\": $(cat -v terminal)"
}
hang_up() {
    exec 3>&-
    wait
}
# live: the pictures of the live line, each a line
live() { tr '\r' '\n' <terminal | sed 's/\x1b\[K//' | grep -a '^step'; }

train="rhetor-pretrain data.train=x.h5 ${small[*]} eval.every=0"
on_terminal 80 xterm "$train train.steps=300 run.dir=wide"
shows 'left with 0'
hang_up
[ "$(live | wc -l)" -ge 2 ] || fail "no live line: $(cat -v terminal)"
[ -z "$(live | grep -av '^step [0-9]*/300  eta [0-9:]*  loss [0-9.]*')" ] || fail "no time left: $(live)"
[ -z "$(live | grep -aE '.{80}')" ] || fail "a live line is wider than the terminal: $(live)"
on_terminal 30 xterm "$train train.steps=30 run.dir=narrow"
shows 'left with 0'
hang_up
[ -z "$(live | grep -avE '^step [0-9]+/30  eta [0-9]+:[0-9]+$')" ] || fail "not cut at a field: $(live)"
on_terminal 80 dumb "$train train.steps=30 run.dir=dumb"
shows 'left with 0'
hang_up
! grep -aq $'\x1b' terminal || fail "a dumb terminal got escapes: $(cat -v terminal)"
shows '^step 30/30'
for command in "rhetor-pipeline $tiny --run pipe --until world" "rhetor-data inspect cats.jsonl" \
    "rhetor-sft from.model=runs/pretrain data.train=demos.jsonl run.dir=dry --dry-run"; do
    on_terminal 80 dumb "$command"
    shows 'left with 0'
    hang_up
    ! grep -aq $'\x1b' terminal || fail "$command: a dumb terminal got escapes: $(cat -v terminal)"
done

# Ctrl-C: the first is answered at once, though a save hangs; the second says what is lost
on_terminal 80 xterm "RHETOR_FAULT=ckpt_save.begin:0:2:hang $train train.steps=1000000 save.every=20 run.dir=hangs"
shows 'saved step 20'
shows '"step": 40' hangs/metrics.jsonl
printf '\003' >&3
shows 'interrupted: this step is finished and saved'
printf '\003' >&3
shows 'interrupted again: leaving at once; what came after step 20 is lost'
shows 'left with 130'
shows '"state": "failed", "code": 130, "reason": "what came after step 20 is lost"' hangs/status.json
hang_up
on_terminal 80 xterm "$train train.steps=1000000 save.every=0 run.dir=interrupted"
shows 'step 1/'
printf '\003' >&3
shows 'interrupted: this step is finished and saved'
shows 'SIGINT: saved at step'
shows 'left with 75'
hang_up
exit 0
