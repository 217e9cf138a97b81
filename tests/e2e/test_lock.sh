#!/bin/bash
# A run owns its folder, and notices when it does not any more: it saves nothing more and says why.
. "$(dirname "$0")/lib.sh"
must "$bin/rhetor-pipeline" "$tiny" --run data --until corpus
export RUN=data

# start DIR [SETTING...]: a long run that saves often, in the background, until it has saved once
start() {
    local dir=$1
    shift
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir="$dir" train.steps=1000000 save.every=20 "$@" \
        >"$dir.out" 2>&1 &
    pid=$!
    until compgen -G "$dir/checkpoints/step_*.json" >/dev/null; do
        kill -0 $pid || fail "$(cat "$dir.out")"
        sleep 0.05
    done
}

# ends CODE DIR TEXT: the run leaves with CODE and says TEXT
ends() {
    local status=0
    wait $pid || status=$?
    [ $status = "$1" ] || fail "left with $status, expected $1: $(tail -n 5 "$2.out")"
    grep -qF -- "$3" "$2.out" || fail "does not say \"$3\": $(tail -n 5 "$2.out")"
}

# --- another run takes the lock: what it has is left alone
start taken
printf 'host: elsewhere\njob: none\npid: 7\nstarted: 1\nplace: boot x, pid:[1]\n' >lock.other
ln -f lock.other taken/lock
: >taken/checkpoints/step_99999999.h5.tmp.7
status=$(cat taken/status.json)
ends 78 taken "taken/lock: the lock of this run was removed or taken by another run, so nothing more is saved"
cmp -s lock.other taken/lock || fail "the other's lock is gone"
[ -e taken/checkpoints/step_99999999.h5.tmp.7 ] || fail "the other's temporary is gone"
grep -q '"failed"' taken/status.json && fail "its end stands in the other's status.json"

# --- the folder is moved, deleted, replaced: nothing appears in its place
start moved
mv moved elsewhere
ends 74 moved "moved: the folder of this run was deleted, moved or replaced while it ran"
[ -e moved ] && fail "the folder was made again: $(find moved)"
start gone
rm -rf gone
ends 74 gone "gone: the folder of this run was deleted, moved or replaced while it ran"
[ -e gone/checkpoints ] && fail "the folder was made again: $(find gone)"

# --- the same command at once after a kill goes on, however it was killed
for signal in KILL TERM; do
    start again
    kill -$signal $pid
    must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=again save.every=20 train.steps=1
    wait $pid
    rm -r again
done
exit 0
