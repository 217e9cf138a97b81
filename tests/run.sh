#!/bin/bash
# run.sh: builds and runs the tests. make test and make asan call it.
#   tests/run.sh [T]     T: only tests whose path, or one of whose inner tests' names, contains it
#
# A test is a cmocka program tests/<room>/test_*.c or a script tests/e2e/test_*.sh. Each runs in a
# process of its own with a time limit and an own TMPDIR, several at a time; the lines come in the
# order of the plan. Comments near the top of a test's source:
#   /* ranks: 1 2 4 */     run under mpirun, once with each count
#   /* timeout: 900 */     seconds instead of 600            (in scripts: # timeout: 900)
#   # asan: yes            a script that other variants run too (make asan, .ci/run's clang); the
#                          others are too slow for that
# The gradient checks, Muon and the model's tests also run in double precision (VARIANT=double).
# tests/fuzz/fuzz_*.c are programs of their own kind (tests/fuzz/fuzz.h): one test each, which runs for
# FUZZ_SECONDS (2).
# A script gets RHETOR_BIN (the programs), RHETOR_ROOT (the tree) and an empty folder as its
# working directory and TMP; it leaves with 0 (passed), 77 (skipped, last line says why) or another
# number (failed).
# Environment: VARIANT (release), CC, JOBS (tests at a time; the number of cores), FUZZ_SECONDS,
# FUZZ_SEED.
# The last line is "N passed, N failed[, N skipped]"; a program counts with its inner tests.
# Exit status: 0, 1 when a test failed, 2 when T names no test.
set -u
shopt -s nullglob
cd "$(dirname "$0")/.." || exit 2
root=$PWD
T=${1:-}
VARIANT=${VARIANT:-release}
JOBS=${JOBS:-$(nproc)}
export FUZZ_SECONDS=${FUZZ_SECONDS:-2}
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that called us
bin=$root/bin
[ "$VARIANT" = release ] || bin=$root/build/$VARIANT/bin

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMP_WAIT_POLICY=passive # waiting threads leave the cores to the other tests
export KMP_AFFINITY=disabled   # clang's OpenMP: binding is the launcher's, as with gcc's
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$root/tests/lsan.supp:print_suppressions=0
ulimit -c 0

# --- the plan: parallel arrays, one entry a process (or mpirun) to start -----------------------------
labels=() sources=() programs=() ranks=()

# header SOURCE KEY: the value after "KEY:" in a comment among the first 40 lines
header() {
    head -n 40 "$1" | sed -nE "s,^ *(#|/?\*) *$2: *([^*]*[^* ]) *(\*/)?\$,\2,p" | head -n 1
}

# selected SOURCE: T is in its path or in the name of one of its inner tests
selected() {
    [[ -z $T || "$1" == *"$T"* ]] && return 0
    grep -oE '[A-Za-z0-9_]+\(void \*\*' "$1" | grep -qF -- "$T"
}

# plan LABEL SOURCE PROGRAM RANKS
plan() { labels+=("$1") sources+=("$2") programs+=("$3") ranks+=("$4"); }

for source in tests/*/test_*.c; do
    selected "$source" || continue
    name=${source#tests/} name=${name%.c}
    counts=$(header "$source" ranks)
    for n in ${counts:-0}; do
        label=$name
        [ "$n" = 0 ] || label="$name, ranks: $n"
        plan "$label" "$source" "build/$VARIANT/tests/$name" "$n"
    done
    if [ "$VARIANT" = release ]; then
        case $name in
        core/test_gradcheck | core/test_ops_golden | model/* | exchange/test_golden | optim/test_muon)
            plan "$name, double" "$source" "build/double/tests/$name" 0
            ;;
        esac
    fi
done
for source in tests/fuzz/fuzz_*.c; do
    selected "$source" || continue
    name=${source#tests/} name=${name%.c}
    plan "$name" "$source" "build/$VARIANT/tests/$name" 0
done
scripts=0
for source in tests/e2e/test_*.sh; do
    selected "$source" || continue
    [[ $VARIANT == release || $(header "$source" asan) == yes ]] || continue
    plan "${source#tests/}" "$source" "$source" 0
    scripts=1
done
if [ ${#labels[@]} = 0 ]; then
    echo "no test${T:+'s path, nor an inner test's name, contains '$T'}" >&2
    exit 2
fi

# --- build ---------------------------------------------------------------------------------------
work=$(mktemp -d "${TMPDIR:-/tmp}/rhetor-test.XXXXXX")
targets=()
[[ $scripts = 1 || -z $T ]] && targets+=(all)
double=()
for p in "${programs[@]}"; do
    case $p in
    build/double/*) double+=("$p") ;;
    build/*) targets+=("$p") ;;
    esac
done
build() { # build VARIANT TARGET...: what cannot be built is reported as a failed test below
    local variant=$1
    shift
    [ $# = 0 ] || ${MAKE:-make} -s -k -j"$JOBS" ${CC:+CC="$CC"} VARIANT="$variant" "$@"
}
# stale VARIANT TARGET...: notes the targets that are not up to date after a failed build; an older
# program must not be tested in their place.
declare -A not_built
stale() {
    local variant=$1 target
    shift
    for target in "$@"; do
        ${MAKE:-make} -s -q VARIANT="$variant" "$target" >/dev/null 2>&1 || not_built[$target]=1
    done
    echo "the build failed (see above); what could be built is tested" >&2
}
build "$VARIANT" "${targets[@]}" || stale "$VARIANT" "${targets[@]}"
build double "${double[@]}" || stale double "${double[@]}"

# --- run -----------------------------------------------------------------------------------------
# The command of entry $1 goes to the array `command`, as a person could type it to `repeat`.
command_of() {
    local program=${programs[$1]} n=${ranks[$1]}
    if [[ $program == *.sh ]]; then
        # A program that ends with an error does not free first: no look for leaks.
        command=(env RHETOR_BIN="$bin" RHETOR_ROOT="$root" OMP_NUM_THREADS=1
            ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0" bash "$root/$program")
        repeat="make test VARIANT=$VARIANT T=${labels[$1]}"
    elif [ "$n" = 0 ]; then
        command=(env OMP_NUM_THREADS=2 "$program")
        repeat="OMP_NUM_THREADS=2 $program"
    else
        # LeakSanitizer's tracer falls over Open MPI's threads where several ranks end together: one
        # rank looks for leaks. It needs the slow way through the stack, since Open MPI has no frame
        # pointers and could not be named.
        local asan=$ASAN_OPTIONS:detect_leaks=0
        [ "$n" = 1 ] && asan=$ASAN_OPTIONS:fast_unwind_on_malloc=0
        # One file a rank: the lines of cmocka must not be mixed.
        command=(env OMP_NUM_THREADS=1 ASAN_OPTIONS="$asan" mpirun -n "$n" --oversubscribe --bind-to none
            sh -c "exec \"\$0\" >\"\$1.\$OMPI_COMM_WORLD_RANK\" 2>&1" "$program" "$work/$1.rank")
        repeat="OMP_NUM_THREADS=1 mpirun -n $n --oversubscribe --bind-to none $program"
    fi
}

limit_of() {
    local limit
    limit=$(header "${sources[$1]}" timeout)
    limit=${limit:-600} # ends what hangs; a loaded machine takes ten times as long as a quiet one
    [ "$VARIANT" = asan ] && limit=$((limit * 3))
    [[ ${programs[$1]} != */fuzz_* ]] || limit=$((limit + FUZZ_SECONDS))
    echo "$limit"
}

# run ENTRY: leaves ENTRY.out (and .rank.*), and ENTRY.done with the exit status and the seconds
run() {
    local i=$1 status started=$EPOCHREALTIME
    mkdir "$work/$i.tmp"
    : >"$work/$i.out"
    command_of "$i"
    [[ ${programs[$i]} == *.sh ]] && command=(env -C "$work/$i.tmp" TMP="$work/$i.tmp" "${command[@]}")
    local needs=${programs[$i]}
    [[ $needs == *.sh ]] && needs=all
    if [ -z "${not_built[$needs]:-}" ]; then
        TMPDIR=$work/$i.tmp timeout -k 10 "$(limit_of "$i")" "${command[@]}" \
            >"$work/$i.out" 2>&1 </dev/null &
        echo $! >"$work/$i.pid"
        wait $!
        status=$?
        rm -f "$work/$i.pid"
    else
        status=not-built
    fi
    awk -v s="$status" -v a="$started" -v b="$EPOCHREALTIME" \
        'BEGIN { printf "%s %.1f\n", s, b - a }' >"$work/$i.part"
    mv "$work/$i.part" "$work/$i.done"
}

passed=0 failed=0 skipped=0
# show ENTRY: counts its inner tests and prints its line; after a failure the end of its output
show() {
    local i=$1 status seconds ok bad skip open verdict why= first
    read -r status seconds <"$work/$i.done"
    first=$work/$i.out
    [ "${ranks[$i]}" = 0 ] || first=$work/$i.rank.0
    local files=("$work/$i".out "$work/$i".rank.*)
    # What failed in any rank failed; what passed is counted in rank 0. A test that began and did
    # not end (exit(), abort(), a time limit) is `open`.
    read -r ok bad skip open < <(awk -v first="$first" '
        { line = $0; sub(/\r$/, "", line) }
        match(line, /\[ +(RUN|OK|FAILED|SKIPPED) +\] /) {
            name = substr(line, RSTART + RLENGTH)
            if (name ~ /^[0-9]+ test\(s\)/) next
            kind = substr(line, RSTART, RLENGTH)
            if (kind ~ /RUN/) { open[FILENAME] = name; next }
            delete open[FILENAME]
            if (kind ~ /FAILED/) failed[name] = 1
            else if (kind ~ /SKIPPED/) skipped[name] = 1
            else if (FILENAME == first) passed[++n] = name
        }
        END {
            for (k = 1; k <= n; k++) if (!(passed[k] in failed)) ok++
            for (k in failed) bad++
            for (k in skipped) if (!(k in failed)) skip++
            for (k in open) if (!(open[k] in failed)) last = open[k]
            print ok + 0, bad + 0, skip + 0, last
        }' "${files[@]}")
    local script=no # one test, whatever it prints
    [[ ${programs[$i]} == *.sh || ${programs[$i]} == */fuzz_* ]] && script=yes
    [[ ${programs[$i]} != */fuzz_* || $status != 0 ]] || why=$(tail -n 1 "$work/$i.out")
    case $script,$status in
    yes,0) ok=1 bad=0 skip=0 ;;
    yes,77) ok=0 bad=0 skip=1 why=$(tail -n 1 "$work/$i.out") ;;
    yes,*) ok=0 bad=1 skip=0 ;;
    no,*)
        if [ -n "$open" ]; then
            bad=$((bad + 1))
        elif [ "$status" != 0 ]; then
            [ "$bad" != 0 ] || bad=1
        elif [ $((ok + bad + skip)) = 0 ]; then
            bad=1 why="ran no test"
        fi
        ;;
    esac
    case $status in
    0) [ -z "$open" ] || why="left within $open" ;;
    77) ;;
    not-built) why="could not be built" ;;
    124 | 137) why="killed, or over its limit of $(limit_of "$i") s${open:+, in $open}" ;;
    *) why="exit status $status${open:+, in $open}" ;;
    esac
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    verdict=ok
    [[ $skip = 0 || $ok != 0 ]] || verdict=skip
    [ "$bad" = 0 ] || verdict=FAIL
    printf '%-4s %6s s  %s (%s%s)\n' "$verdict" "$seconds" "${labels[$i]}" \
        "$(tests_in_words "$ok" "$bad" "$skip")" "${why:+; $why}"
    if [ "$bad" = 0 ]; then
        rm -rf "${work:?}/$i".*
        return
    fi
    command_of "$i"
    for f in "${files[@]}"; do
        [ -s "$f" ] || continue
        echo "     | --- the last lines of ${f#"$work"/"$i".}"
        tail -n 30 "$f" | sed 's/^/     | /'
    done
    rm -rf "$work/$i.out" "$work/$i".rank.* "$work/$i.tmp"/ompi.* # Open MPI's session folders
    rmdir "$work/$i.tmp" 2>/dev/null || echo "     its files: $work/$i.tmp"
    if [ "$status" = not-built ]; then
        repeat="make VARIANT=$VARIANT"
        [[ ${programs[$i]} == *.sh ]] || repeat="make VARIANT=$(cut -d/ -f2 <<<"${programs[$i]}") ${programs[$i]}"
    fi
    echo "     repeat: $repeat"
}

tests_in_words() {
    local words=
    [ "$1" = 0 ] || words="$1 passed"
    [ "$2" = 0 ] || words="${words:+$words, }$2 failed"
    [ "$3" = 0 ] || words="${words:+$words, }$3 skipped"
    echo "$words"
}

stop() { # interrupted: end what still runs; timeout hands the signal on to its process group
    trap - INT TERM
    for f in "$work"/*.pid; do kill "$(cat "$f")" 2>/dev/null; done
    wait
    rm -rf "$work"
    exit 130
}
trap stop INT TERM HUP

started=0 shown=0
while [ "$shown" -lt ${#labels[@]} ]; do
    while [ "$started" -lt ${#labels[@]} ] && [ "$(jobs -rp | wc -l)" -lt "$JOBS" ]; do
        run "$started" &
        started=$((started + 1))
    done
    [ -e "$work/$shown.done" ] || wait -n
    while [ -e "$work/$shown.done" ]; do
        show "$shown"
        shown=$((shown + 1))
    done
done

if [ -n "${not_built[all]:-}" ]; then
    failed=$((failed + 1))
    echo "FAIL  the programs could not be built; repeat: make VARIANT=$VARIANT"
fi
rm -f "$work"/*.done
rmdir "$work" 2>/dev/null
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
