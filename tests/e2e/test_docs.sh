#!/bin/bash
# Documentation that is generated is up to date, and what the documents name is there.
. "$RHETOR_ROOT/tests/e2e/lib.sh"

"$bin/rhetor" --settings >config.md
cmp -s config.md "$root/docs/CONFIG.md" || fail "docs/CONFIG.md is not what the table of settings gives: make docs"

# files that the README links to, and programs that it calls
for link in $(grep -o '](\([^)]*\))' "$root/README.md" | tr -d '()]' | grep -v '^http'); do
    [ -e "$root/$link" ] || fail "README.md links to $link, which is not there"
done
for program in $(grep -oE '^ *(mpirun .* )?rhetor-[a-z]+' "$root/README.md" | grep -oE 'rhetor-[a-z]+' | sort -u); do
    [ -x "$bin/$program" ] || fail "README.md calls $program, which is not built"
done

# every recipe's stages accept their settings
export RUN=run SEED=1 DATA=data
for file in "$root"/configs/*/*.yaml; do
    stage=$(basename "$file" .yaml)
    stage=${stage%%-*}
    case $stage in pretrain | sft | reward | ppo) must "$bin/rhetor-$stage" "$file" --print-config ;; esac
done
exit 0
