#!/bin/bash
# lint.sh: what make lint checks.
#   1. format: clang-format 14 (.clang-format)
#   2. who includes whom: the USES_ table of the Makefile; MPI, HDF5 and CBLAS in their one place
#   3. no flags that change what floating point means, none that tie a program to this machine's CPU
#   4. no file name and no type name twice in the product, no stray file at the top
#   5. warnings are errors, with gcc and, where it is installed, clang
#   6. what a file exports begins with a word of its name, or with its room's name
# Prints one line for each finding, file:line first; exit status 1 when there is one.
set -u
shopt -s nullglob
cd "$(dirname "$0")/.." || exit 2
make=${MAKE:-make}
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that called us
findings=0

# finding LINE...
finding() {
    [ $# = 0 ] && return
    printf '%s\n' "$@" >&2
    findings=$((findings + $#))
}

uses=$($make -s uses) || exit 2
sources=()
for folder in $(cut -d' ' -f2 <<<"$uses" | grep -vxE 'e2e|fuzz|faults'); do sources+=("$folder"/*.[ch]); done
sources+=(tools/*/*.[ch] tests/*/*.[ch])

# --- 1. format ---------------------------------------------------------------------------------------
formatter=$(command -v clang-format-14 || command -v clang-format)
if [ -z "$formatter" ]; then
    finding "lint: clang-format is missing: apt-get install clang-format"
else
    mapfile -t ill < <("$formatter" --dry-run "${sources[@]}" 2>&1 |
        awk -F: '/^[^ ]+:[0-9]+:[0-9]+: warning:/ && !($1 in n) { order[++k] = $1; line[$1] = $2 }
            /^[^ ]+:[0-9]+:[0-9]+: warning:/ { n[$1]++ }
            END {
                for (i = 1; i <= k; i++) {
                    f = order[i]
                    print f ":" line[f] ": not formatted (" n[f] (n[f] > 1 ? " places" : " place") "): make format"
                }
            }')
    finding "${ill[@]}"
    [ ${#ill[@]} = 0 ] || "$formatter" --version | grep -q 'version 14\.' ||
        echo "lint: the format is clang-format 14's; here is $("$formatter" --version)" >&2
fi

# --- 2. who includes whom ----------------------------------------------------------------------------
mapfile -t strangers < <(awk -v table="$uses" '
    # The room that a path lies in: that of its folder, or of the nearest one above that is a room.
    function room_of(path) {
        while (sub(/\/[^\/]*$/, "", path))
            if (path in name) return name[path]
        return ""
    }
    BEGIN {
        n = split(table, lines, "\n")
        for (i = 1; i <= n; i++) {
            m = split(lines[i], words, / +/)
            name[words[2]] = words[1]
            for (k = 3; k <= m; k++) {
                may[words[1], words[k]] = 1
                list[words[1]] = list[words[1]] (k > 3 ? " " : "") words[k]
            }
        }
    }
    # a test may include what its room may
    FNR == 1 {
        split(FILENAME, path, "/")
        room = path[1] == "tests" ? path[2] : room_of(FILENAME)
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, quoted, "\"")
        header = quoted[2]
        other = room_of(header)
        if (header !~ /\//)
            print FILENAME ":" FNR ": \"" header "\": write \"room/" header "\""
        else if (header !~ /^(tests|tools)\// && !((room, other) in may))
            print FILENAME ":" FNR ": " room "/ may not include " header " (only: " list[room] "; Makefile, USES_" room ")"
        else if (header ~ /^tools\// && room != "tools")
            print FILENAME ":" FNR ": " room "/ may not include " header
    }
    /^[ \t]*#[ \t]*include[ \t]*<mpi\.h>/ && FILENAME !~ /^dist\// {
        print FILENAME ":" FNR ": <mpi.h> belongs to dist/: use dist/comm.h"
    }
    /^[ \t]*#[ \t]*include[ \t]*<hdf5(_hl)?\.h>/ && FILENAME !~ /^(base|tests)\/h5\/|^tests\/checkpoints\// {
        print FILENAME ":" FNR ": <hdf5.h> belongs to base/h5/: use base/h5/h5.h"
    }
    /^[ \t]*#[ \t]*include[ \t]*<cblas[a-z_0-9]*\.h>/ && FILENAME !~ /^core\/blas\.c$/ {
        print FILENAME ":" FNR ": <cblas.h> belongs to core/blas.c: use core/blas.h"
    }' "${sources[@]}")
finding "${strangers[@]}"

# --- 3. flags ----------------------------------------------------------------------------------------
bad_flags='-Ofast|-ffast-math|-funsafe-math|-ffinite-math-only|-march=native|-mtune=native'
mapfile -t flags < <(
    grep -nE -- "^[^#]*($bad_flags)" Makefile /dev/null
    [ ${#sources[@]} = 0 ] ||
        grep -nE -- '(pragma GCC optimize|__attribute__ *\(\(.*optimize).*(fast|unsafe)|pragma .*float_control' \
            "${sources[@]}" /dev/null
)
for f in "${flags[@]}"; do
    finding "$f: removes isfinite checks, or ties the program to one CPU"
done

# --- 4. one name, one thing --------------------------------------------------------------------------
# Args is each program's own command line; a .c file's type may not have a header's name either.
product=()
for f in "${sources[@]}"; do [[ $f == tests/* ]] || product+=("$f"); done
mapfile -t twice < <(awk '
    FNR == 1 {
        file = FILENAME
        sub(/.*\//, "", file)
        if (file in place) print FILENAME ":1: a file of this name is " place[file]
        place[file] = FILENAME
    }
    /^} [A-Z][A-Za-z0-9]*;/ && $2 != "Args;" {
        if ($2 in type) print FILENAME ":" FNR ": the type " substr($2, 1, length($2) - 1) " is also at " type[$2]
        type[$2] = FILENAME ":" FNR
    }' "${product[@]}")
finding "${twice[@]}"

mapfile -t stray < <(git ls-files 2>/dev/null |
    grep -vE '/|^\.|^(LICENSE|Makefile|README\.md|THIRD_PARTY\.md)$')
for f in "${stray[@]}"; do
    finding "$f:1: no file of the top folder (a test's output?): git rm --cached $f"
done

# --- 5. warnings -------------------------------------------------------------------------------------
# The objects are kept, so a second lint compiles only what changed.
compile() { # compile CC VARIANT
    $make -s -k -j"$(nproc)" CC="$1" VARIANT="$2" objects 2>"$log" && return
    # An error in a system's header is shown where we include it.
    mapfile -t errors < <(awk -v cc="$1" '
        /^In file included from / { where = $5; sub(/[:,]$/, "", where) }
        /^ +from / { where = $2; sub(/[:,]$/, "", where) }
        /^[^ :]+:[0-9]+:[0-9]+: (fatal )?error: / {
            split($0, at, ":")
            text = $0
            sub(/^[^ ]+ (fatal )?error: /, "", text)
            place = at[1] ":" at[2]
            if (at[1] ~ /^\//) { text = "in <" at[1] ">: " text; place = where }
            if (!(place in seen)) print place ": " cc ": " text
            seen[place] = 1
        }' "$log")
    if [ ${#errors[@]} = 0 ]; then mapfile -t errors < <(tail -n 5 "$log"); fi
    finding "${errors[@]}"
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
compile gcc lint
if command -v clang >/dev/null; then
    compile clang clang
else
    echo "lint: clang is not installed: its warnings were not checked" >&2
fi

# --- 6. exported names -------------------------------------------------------------------------------
# A further module of a file, FILE WORD: x is for allocation that cannot fail, ckpt for checkpoint.
modules='base/error.c x
checkpoints/keep.c ckpt
checkpoints/layout.c ckpt
checkpoints/open.c ckpt
checkpoints/save.c ckpt
core/op_layernorm.c headnorm
data/tokenizer/pretokenize.c behavior
data/tokenizer/pretokenize.c utf8
data/tokenizer/splitter.c CL100K
data/tokenizer/splitter.c GPT2
data/tokenizer/splitter.c O200K
data/tokenizer/tokenizer.c ids
data/tokenizer/tokenizer_json.c alphabet
data/world/world.c dice
data/world/world.c person
data/world/world.c prose
data/world/world.c scene
rlhf/ppo_math.c kl
rlhf/ranking.c rank'
mapfile -t foreign < <(for f in "${product[@]}"; do
    [[ $f == *.c && -e build/lint/${f%.c}.o ]] || continue
    nm --defined-only -g "build/lint/${f%.c}.o" | sed "s|^|$f |"
done | awk -v modules="$modules" '
    BEGIN {
        n = split(modules, lines, "\n")
        for (i = 1; i <= n; i++) {
            split(lines[i], words, " ")
            more[words[1]] = more[words[1]] " " words[2]
        }
    }
    NF == 4 && $4 !~ /^[._]|^main$/ {
        n = split($1, path, "/")
        file = path[n]
        sub(/^rhetor-/, "", file)
        sub(/\.c$/, "", file)
        gsub(/[_-]/, " ", file)
        words_of_file = file " " path[n - 1] more[$1]
        count = split(words_of_file, good, " ")
        for (i = 1; i <= count; i++)
            if (index($4, good[i]) == 1) next
        print $1 ":1: exports " $4 ", which begins with none of: " words_of_file
    }')
finding "${foreign[@]}"

if [ "$findings" != 0 ]; then
    echo "lint: $findings findings" >&2
    exit 1
fi
echo "lint: ${#sources[@]} files are clean"
