# lib.sh: what the end-to-end scripts share. Sourced by test_*.sh; tests/run.sh sets RHETOR_BIN and
# RHETOR_ROOT and starts us in an empty folder.
set -u
bin=${RHETOR_BIN:?set by tests/run.sh}
root=${RHETOR_ROOT:?set by tests/run.sh}
# Started by hand from within the tree: nothing is written there.
[[ $PWD/ != "$root"/* ]] || cd "$(mktemp -d "${TMPDIR:-/tmp}/rhetor-test.XXXXXX")" || exit 2
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
    local code=$1 status=0 texts=() text program said
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

# --- runs of configs/tiny ----------------------------------------------------------------------------
# launch RANKS COMMAND...: on that many ranks; on one without mpirun
launch() {
    local ranks=$1
    shift
    [ "$ranks" = 1 ] || set -- mpirun -n "$ranks" --oversubscribe --bind-to none "$@"
    "$@"
}

# stage NAME RANKS DIR [SETTING...]: a stage of the recipe into DIR, with the script's `settings`; its
# output is in DIR.out. It leaves with $leaves.
settings=() leaves=0
stage() {
    local name=$1 ranks=$2 dir=$3 status=0
    shift 3
    launch "$ranks" "$bin/rhetor-$name" "$tiny/$name.yaml" run.dir="$dir" "${settings[@]}" "$@" \
        >"$dir.out" 2>&1 || status=$?
    [ $status = $leaves ] ||
        fail "$name on $ranks ranks left with $status, expected $leaves: $(tail -n 20 "$dir.out")"
}

# tiny_data VOCAB OPTION...: what rhetor-data synth makes with these in data/, tokenizer.json, train.h5
# and heldout.h5
tiny_data() {
    must "$bin/rhetor-data" synth --out data "${@:2}"
    must "$bin/rhetor-data" tokenizer --vocab "$1" --out tokenizer.json data/documents.jsonl
    must "$bin/rhetor-data" encode --tokenizer tokenizer.json --out train.h5 data/documents.jsonl
    must "$bin/rhetor-data" encode --tokenizer tokenizer.json --out heldout.h5 data/documents_heldout.jsonl
}

# tiny_ranked MODEL: ranked.jsonl, of four answers of MODEL to each prompt
tiny_ranked() {
    must "$bin/rhetor-generate" -m "$1" --in data/compare_prompts.jsonl --out samples.jsonl -n 4 --max-new 12 --seed 5
    must "$bin/rhetor-data" rank --gold --noise 0.1 --seed 5 --out ranked.jsonl samples.jsonl
}

# identical A B: all arrays of two checkpoints, bit by bit, and their counters
identical() {
    expect 0 "are bit-identical" -- "$bin/rhetor-ckpt" diff "$1" "$2"
    ! grep -q '^counters' expect.out || fail "the counters of $1 and $2 differ: $(cat expect.out)"
}

# same_run A B: what two runs end with, the way there, and PPO's rollouts
same_run() {
    identical "$1" "$2"
    cmp -s "$1/metrics.jsonl" "$2/metrics.jsonl" || fail "the metrics of $1 and $2 differ"
    [ ! -d "$1/rollouts" ] || diff -r "$1/rollouts" "$2/rollouts" || fail "the rollouts of $1 and $2 differ"
}

# curve DIR KEY: its values, a line a step
curve() { sed -nE "s,.*\"$2\": ([^,}]*).*,\1,p" "$1/metrics.jsonl"; }

# near KEY SCALE STEPS A B...: the curve of KEY of each B is that of A, |a - b| <= 1e-5 max(|a|, SCALE) at
# each of the STEPS steps
near() {
    local key=$1 scale=$2 steps=$3 first=$4 dir
    for dir in "${@:5}"; do
        paste <(curve "$first" "$key") <(curve "$dir" "$key") | awk -v scale="$scale" -v steps="$steps" \
            -v what="$key of $first and $dir" '
            { a = $1 < 0 ? -$1 : $1; d = $1 - $2; if (d < 0) d = -d
              if (a < scale) a = scale
              if (NF != 2 || !($1 ~ /[0-9]/) || !($2 ~ /[0-9]/)) { print what ", line " NR ": " $0; bad = 1 }
              if (d / a > worst) worst = d / a }
            END { printf "%-55s %3d steps, differ by %.1e\n", what, NR, worst
                  exit bad || NR != steps || worst > 1e-5 }' || fail "$key of $first and $dir"
    done
}

# no_temporaries DIR: its checkpoints are all whole
no_temporaries() {
    [ -z "$(ls "$1/checkpoints" | grep tmp)" ] || fail "temporaries are left: $(ls "$1/checkpoints")"
}

# --- HTTP ------------------------------------------------------------------------------------------
# http METHOD PATH BODY [HEADER...]: the whole reply of 127.0.0.1:$port in `reply`; fails without one
http() {
    local method=$1 path=$2 body=$3 header
    shift 3
    reply=
    exec 5<>"/dev/tcp/127.0.0.1/$port" || return 1
    {
        printf '%s %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\nContent-Length: %d\r\n' "$method" "$path" "$port" ${#body}
        for header; do printf '%s\r\n' "$header"; done
        printf '\r\n%s' "$body"
    } >&5 2>/dev/null && reply=$(cat <&5 2>/dev/null)
    exec 5>&-
    [ -n "$reply" ]
}
json='Content-Type: application/json'
# says TEXT...: the last reply holds each
says() {
    local text
    for text; do grep -qF -- "$text" <<<"$reply" || fail "the reply does not say \"$text\": $reply"; done
}
# serve PROGRAM OPTION...: starts it on $port (a free one, or as before); $server is its process
server= port=
serve() {
    "$bin/$1" "${@:2}" --port "${port:-0}" 2>serve.log &
    server=$!
    trap 'kill -9 $server 2>/dev/null' EXIT
    for _ in $(seq 600); do
        port=$(sed -nE 's,.*http://[^:]*:([0-9]+)/.*,\1,p' serve.log)
        [ -n "$port" ] && return
        kill -0 $server 2>/dev/null || fail "the server left: $(cat serve.log)"
        sleep 0.1
    done
    fail "the server does not say where it listens"
}
