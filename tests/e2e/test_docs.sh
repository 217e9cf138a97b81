#!/bin/bash
# Documentation that is generated is up to date, and what the documents name is there.
. "$RHETOR_ROOT/tests/e2e/lib.sh"

"$bin/rhetor" --settings >config.md
cmp -s config.md "$root/docs/CONFIG.md" || fail "docs/CONFIG.md is not what the table of settings gives: make docs"

# make says a line a file, and shows its commands when it is asked to
object=(make -C "$root" -n -W base/text.c build/release/base/text.o)
[ "$("${object[@]}" | grep -c '^echo "CC base/text.c";')" = 1 ] || fail "make: $("${object[@]}")"
! "${object[@]}" V=1 | grep -q '^echo' || fail "make V=1: $("${object[@]}" V=1)"

# files that the README links to, and programs that it calls
for link in $(grep -o '](\([^)]*\))' "$root/README.md" | tr -d '()]' | grep -v '^http'); do
    [ -e "$root/$link" ] || fail "README.md links to $link, which is not there"
done
for program in $(grep -oE '^ *(mpirun .* )?rhetor-[a-z]+' "$root/README.md" | grep -oE 'rhetor-[a-z]+' | sort -u); do
    [ -x "$bin/$program" ] || fail "README.md calls $program, which is not built"
done

# the tests that RELIABILITY.md names: rows of make test-faults, files, functions in them
while IFS=' ' read -r file name; do
    case $file in
    make) grep -q "^$name:" "$root/Makefile" || fail "RELIABILITY.md: there is no make $name" ;;
    row) grep -q "^row_$name() {" "$root/tests/faults/run.sh" || fail "RELIABILITY.md: make test-faults has no row $name" ;;
    *)
        [ -e "$root/$file" ] || fail "RELIABILITY.md names $file, which is not there"
        [ -z "$name" ] || grep -qw "$name" "$root/$file" || fail "RELIABILITY.md: $file has no $name"
        ;;
    esac
done < <(awk -F'|' '/^\|/ && NF == 5 {
        n = split($4, word, "`")
        for (i = 2; i <= n; i += 2)
            if (word[i] ~ /^tests\//) print file = word[i], ""
            else if (word[i] ~ /^test_/) print file, word[i]
            else if (word[i] ~ /^make /) print word[i]
            else print "row", word[i]
    }' "$root/docs/RELIABILITY.md")
for name in $(sed -nE 's,^row_([a-z]+)\(.*,\1,p' "$root/tests/faults/run.sh"); do
    grep -qE "rows? .*\`$name\`" "$root/docs/RELIABILITY.md" || fail "RELIABILITY.md does not name the row $name"
done

# the example of an op in ADDING.md, applied to a copy, passes its gradient check
if [ "$bin" = "$root/bin" ]; then
    mkdir core && cp "$root"/core/{op_elementwise.c,ops.c,ops.h} core/
    awk '/^```diff/ { on = 1; next } /^```/ { if (on) exit } on' "$root/docs/ADDING.md" >op.diff
    must patch -p1 --fuzz=0 -i op.diff
    libraries=$(sed -n 's/^DEPS_LIBS := //p; s/^CMOCKA_LIBS := //p' "$root/build/release/libraries.mk")
    must ${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -O1 -fopenmp -I. -I"$root" -o gradcheck core/op_elementwise.c core/ops.c \
        "$root/tests/core/test_gradcheck.c" "$root"/build/release/lib{core,base}.a $libraries -ldl -lm
    must ./gradcheck
    grep -q 'OK ] op_scale' must.out || fail "the check of op_scale did not run: $(cat must.out)"
fi

# every recipe's stages accept their settings
export RUN=run SEED=1 DATA=data
for file in "$root"/configs/*/*.yaml; do
    if [[ $file == */configs/lab/* ]]; then
        must "$bin/rhetor-lab" "$file" --dry-run --out none
        continue
    fi
    stage=$(basename "$file" .yaml)
    stage=${stage%%-*} # or what a step says that names the file
    step=$(grep -s -B 2 "config: ${file##*/}" "${file%/*}/pipeline.yaml" | sed -n 's/^ *stage: *//p')
    case $stage in pipeline | cluster) ;; *) must "$bin/rhetor-${step:-$stage}" "$file" --print-config ;; esac
done
exit 0
