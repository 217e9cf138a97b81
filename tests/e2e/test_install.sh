#!/bin/bash
# make install: into DESTDIR, then moved elsewhere. The programs still find their recipes, every one has
# a man page that groff takes without a warning, bash completes what --help lists, the module file leads
# to where the folder now is.
. "$(dirname "$0")/lib.sh"
set -eo pipefail

must make -s -C "$root" install DESTDIR="$PWD/stage" PREFIX=/opt/rhetor
mv stage/opt/rhetor moved
here=$PWD/moved
[ -z "$(find stage -type f)" ] || fail "files outside PREFIX: $(find stage -type f)"

# Programs and recipes, from a folder that knows nothing of the tree
mkdir work && cd work
must "$here/bin/rhetor" pipeline tiny --dry-run
grep -qF "$here/share/rhetor/configs/tiny" must.out || fail "the installed recipe is not used: $(cat must.out)"
cd ..

for program in "$bin"/rhetor*; do
    page=$here/share/man/man1/${program##*/}.1
    [ -s "$page" ] || fail "no man page of $program"
    if command -v groff >/dev/null; then
        [ -z "$(groff -man -ww -Tutf8 -z "$page" 2>&1)" ] || fail "$page: $(groff -man -ww -Tutf8 -z "$page" 2>&1)"
    fi
done
grep -q '^.SS rhetor\\-data tokenizer' "$here/share/man/man1/rhetor-data.1" || fail "rhetor-data's page lacks its commands"

# completes WORDS... -- EXPECTED: the last word may become EXPECTED
. "$here/share/bash-completion/completions/rhetor"
completes() {
    COMP_WORDS=()
    while [ "$1" != -- ]; do COMP_WORDS+=("$1") && shift; done
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _rhetor || true
    [ "${COMPREPLY[*]}" = "$2" ] || fail "${COMP_WORDS[*]}: completed by '${COMPREPLY[*]}', expected '$2'"
}
completes rhetor pipe -- pipeline
completes rhetor data tok -- tokenizer
completes rhetor-data tokenizer --voc -- --vocab=
completes rhetor data tokenizer --voc -- --vocab=
completes rhetor-ppo ppo.kl_t -- ppo.kl_target=
completes rhetor pretrain optim.lr_ -- optim.lr_end=
completes rhetor-pipeline --stat -- --status
completes rhetor-pipeline --run = ru -- ""
complete -p rhetor-submit >/dev/null || fail "rhetor-submit is not completed"

lmod=$(ls /usr/share/lmod/lmod/libexec/lmod 2>/dev/null) || exit 0
eval "$("$lmod" bash use "$here/share/modulefiles")"
eval "$("$lmod" bash load rhetor 2>lmod.err)"
[ "$(command -v rhetor)" = "$here/bin/rhetor" ] || fail "the module leads to $(command -v rhetor): $(cat lmod.err)"
