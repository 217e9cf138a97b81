# bash completion for Rhetor's programs. Made by packaging/share.sh from their --help.
_rhetor_words() {
    case $1 in
# WORDS
    esac
}

_rhetor() {
    local program=${COMP_WORDS[0]##*/} word=${COMP_WORDS[COMP_CWORD]} at=1 words
    if [ "$program" = rhetor ] && [ "$COMP_CWORD" -gt 1 ]; then
        program=rhetor-${COMP_WORDS[1]} at=2
    fi
    words=$(_rhetor_words "$program ${COMP_WORDS[at]}")
    [ "$COMP_CWORD" -gt "$at" ] && [ -n "$words" ] || words=$(_rhetor_words "$program")
    COMPREPLY=()
    [ "$word" = = ] || [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [ "${#COMPREPLY[@]}" != 1 ] || [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _rhetor rhetor rhetor @PROGRAMS@
