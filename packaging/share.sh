#!/bin/bash
# share.sh: man pages, bash completion and a module file, all from what the programs' --help prints.
#   packaging/share.sh BIN OUT     the programs' folder; OUT becomes what goes below PREFIX/share
# make install calls it. To add a program or an option nothing is to be done here.
set -euo pipefail
bin=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
version=$("$bin/rhetor" --version | awk '{print $NF; exit}')
rm -rf "$out"
mkdir -p "$out/man/man1" "$out/bash-completion/completions" "$out/modulefiles/rhetor"

# commands PROGRAM: its commands (rhetor's are the other programs)
commands() { "$bin/$1" --help | awk '/^Usage:.* COMMAND/ {on = 1} on && /^  [a-z]+  +[^ ]/ {print $1}'; }

# --- man pages ---------------------------------------------------------------------------------------
roff() { sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^[.']/\\\\\&&/"; }
# page TITLE-MACRO HELP: the usage, then the rest, in the lines that it has
page() {
    awk -v macro="$1" '
        NR == 1 || (usage && /^ /) {
            if (NR == 1) print (macro == ".SH" ? ".SH SYNOPSIS\n.nf" : ".nf")
            usage = 1
            sub(/^Usage: /, "")
            sub(/^  or:  /, "")
            print
            next
        }
        usage {
            usage = 0
            print (macro == ".SH" ? ".fi\n.SH DESCRIPTION\n.nf" : "")
        }
        { print }
        END { print ".fi" }' <<<"$2"
}
for path in "$bin"/rhetor*; do
    program=${path##*/}
    about=$("$bin/rhetor" --help | awk -v c="${program#rhetor-}" '$1 == c {sub(/^ *[a-z]+ +/, ""); print; exit}')
    {
        echo ".TH ${program^^} 1 \"\" \"Rhetor $version\" \"Rhetor\""
        echo .SH NAME
        echo "$program \\- ${about:-trains small GPT models end to end on CPUs}" | sed 's/\([a-z]\)-\([a-z]\)/\1\\-\2/g'
        page .SH "$("$path" --help | roff)"
        if [ "$program" != rhetor ]; then
            for command in $(commands "$program"); do
                [ "$command" != "${first:=$command}" ] || echo .SH COMMANDS
                echo ".SS $program $command" | sed 's/-/\\-/g'
                page .SS "$("$path" "$command" --help | roff)"
            done
            unset first
        fi
        printf '.SH SEE ALSO\n.nf\n'
        for other in "$bin"/rhetor*; do [ "$other" = "$path" ] || echo "${other##*/}(1)"; done | paste -sd ' ' | sed 's/-/\\-/g'
        echo .fi
    } >"$out/man/man1/$program.1"
done

# --- bash completion: one file, which bash-completion finds by the name of each program ---------------
# words HELP: its options and settings
words() {
    grep -oE '^ {2,6}(-., )?--[a-z-]+(=|\[=)?|^    [a-z_]+\.[a-z_0-9]+=' <<<"$1" | sed -E 's/^ +(-., *)?//; s/\[=/=/' | paste -sd ' '
}
completions=$out/bash-completion/completions
{
    sed '/^# WORDS/,$d' "$here/completion.bash"
    for path in "$bin"/rhetor*; do
        program=${path##*/}
        list=$(commands "$program" | paste -sd ' ')
        echo "    $program) echo '$list $(words "$("$path" --help)")' ;;"
        [ "$program" != rhetor ] || continue
        for command in $list; do
            echo "    '$program $command') echo '$(words "$("$path" "$command" --help)")' ;;"
        done
    done
    sed "1,/^# WORDS/d; s/@PROGRAMS@/$(cd "$bin" && echo rhetor*)/" "$here/completion.bash"
} >"$completions/rhetor"
for path in "$bin"/rhetor-*; do ln -s rhetor "$completions/${path##*/}"; done

# --- module file -------------------------------------------------------------------------------------
sed "s/@VERSION@/$version/" "$here/module.lua" >"$out/modulefiles/rhetor/$version.lua"
