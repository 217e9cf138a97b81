# lib.sh: what the end-to-end scripts share. Sourced by test_*.sh; tests/run.sh sets RHETOR_BIN and
# RHETOR_ROOT and starts us in an empty folder.
set -u
bin=${RHETOR_BIN:?set by tests/run.sh}
root=${RHETOR_ROOT:?set by tests/run.sh}
tiny=$root/configs/tiny

fail() {
    printf 'FAILED: %s\n' "$*"
    exit 1
}

# must COMMAND...: succeeds, else its output and the end of the test
must() {
    "$@" >must.out 2>&1 && return
    local status=$?
    cat must.out
    fail "$* left with $status"
}

# expect CODE TEXT... -- COMMAND...: leaves with CODE, and what it prints holds each TEXT. A
# failure (64 and above) is one line that begins with the program's name.
expect() {
    local code=$1 status=0 texts=() program said
    shift
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    program=$(basename "$1")
    [ "$program" = mpirun ] && program=$(basename "$(printf '%s\n' "$@" | grep -m1 '/rhetor')")
    "$@" >expect.out 2>&1 || status=$?
    said=$(cat expect.out)
    [ "$status" = "$code" ] || fail "$* left with $status, expected $code, and said: $said"
    for text in ${texts[@]+"${texts[@]}"}; do
        grep -qF -- "$text" expect.out || fail "$* does not say \"$text\", but: $said"
    done
    [ "$code" -lt 64 ] || [ "$code" = 75 ] || [ "$(grep -c "^$program[ a-z]*: " expect.out)" = 1 ] ||
        fail "$*: expected one line that begins with \"$program: \", got: $said"
}

# python_with MODULE: a Python that has it, or nothing: PYTHON, the first in PATH or the system's,
# which Debian's packages are for.
python_with() {
    local python
    for python in ${PYTHON:-python3 /usr/bin/python3}; do
        "$python" -c "import $1" 2>/dev/null && echo "$python" && return
    done
}

# identical A B: all arrays of two checkpoints, bit by bit, and their counters
identical() {
    expect 0 "are bit-identical" -- "$bin/rhetor-ckpt" diff "$1" "$2"
    ! grep -q '^counters' expect.out || fail "the counters of $1 and $2 differ: $(cat expect.out)"
}
