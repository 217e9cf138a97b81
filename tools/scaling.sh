#!/bin/bash
# scaling.sh: prints docs/SCALING.md with its tables made by rhetor-plan. `make docs` writes it
# back, tests/e2e/test_plan.sh compares. Between the markers of a table stands its command.
#   tools/scaling.sh BIN
set -eu
bin=$1
cd "$(dirname "$0")/.."
inside=
while IFS= read -r line; do
    case $line in
    "<!-- rhetor-plan "*" -->")
        inside=yes
        command=${line#"<!-- "}
        printf '%s\n```\n' "$line"
        "$bin"/${command% -->}
        printf '```\n'
        ;;
    "<!-- end -->") inside= ;;
    esac
    [ -n "$inside" ] || printf '%s\n' "$line"
done <docs/SCALING.md
