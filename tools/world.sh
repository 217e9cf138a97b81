#!/bin/bash
# world.sh BIN FILE: FILE (docs/WORLD.md) with what the programs print below the lines <!-- examples -->
# and <!-- policies -->, up to <!-- end -->. Used by `make docs`; test_data checks it.
set -eu
made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
"$1/rhetor-data" synth --out "$made" --documents 0 --documents-heldout 0 --sft 0 --sft-heldout 0 --compare 0 \
    --compare-heldout 0 --ppo 0 --eval 1200
"$1/rhetor-data" examples >"$made/examples"
"$1/rhetor-data" policies "$made/eval_prompts.jsonl" >"$made/policies"
awk -v made="$made" '
    /^<!-- end -->$/ {skip = 0}
    !skip {print}
    /^<!-- (examples|policies) -->$/ {skip = 1; print ""; file = made "/" $2; while ((getline line < file) > 0) print line; print ""}' "$2"
