#!/bin/bash
# run.sh: the same work in Rhetor and in its peers, in turns. make bench-peers calls it.
#   tests/peers/run.sh [--rounds N] [CASE...]     cases as compare.py knows them, tokenizer (ids and
#                                                 speed), tokenizer_kinds (ids of many
#                                                 tokenizer.json), hf (models in and out); none:
#                                                 everything
# Makes a virtual environment outside the tree and installs the peers' current releases from the
# package index (some GB with the default PyTorch; with one installed there nothing is fetched).
# Environment:
#   RHETOR_PEERS      the virtual environment (~/.cache/rhetor-peers)
#   RHETOR_BIN        the programs (bin)
#   RHETOR_DATA       for tokenizer: texts and tokenizers, as ../shared/data has them
#   OMP_NUM_THREADS   threads of both sides (all cores)
# Needs python3 with venv; for torch.compile a C++ compiler. Neither the product nor make test does.
set -eu
cd "$(dirname "$0")/../.."
venv=${RHETOR_PEERS:-$HOME/.cache/rhetor-peers}
export RHETOR_BIN=${RHETOR_BIN:-$PWD/bin}
RHETOR_DATA=${RHETOR_DATA:-$PWD/../shared/data}
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
export OMP_NUM_THREADS PYTHONDONTWRITEBYTECODE=1
[ -x "$RHETOR_BIN/rhetor-bench" ] || { echo "run.sh: $RHETOR_BIN/rhetor-bench is missing: make" >&2; exit 64; }

packages="torch tiktoken tokenizers transformers trl safetensors h5py tensorboard"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# shellcheck disable=SC2086 # the list is to be split
"$venv/bin/python" -c 'import '"${packages// /, }" 2>/dev/null || "$venv/bin/pip" install --quiet $packages

# Cases are compare.py's, but for those that are scripts of their own.
compare=() scripts=()
for case in "$@"; do
    case $case in
    tokenizer | tokenizer_kinds | hf) scripts+=("$case") ;;
    *) compare+=("$case") ;;
    esac
done
[ $# != 0 ] || scripts=(tokenizer tokenizer_kinds hf)
status=0
if [ $# = 0 ] || [ ${#compare[@]} != 0 ]; then
    "$venv/bin/python" tests/peers/compare.py ${compare[@]+"${compare[@]}"} || status=1
fi
for script in ${scripts[@]+"${scripts[@]}"}; do
    printf '\n--- %s\n' "$script"
    if [ "$script" != hf ] && [ ! -d "$RHETOR_DATA" ]; then
        echo "run.sh: no folder $RHETOR_DATA (RHETOR_DATA): the tokenizers were not compared" >&2
        status=1
        continue
    fi
    more=()
    [ "$script" = hf ] || more=(--data "$RHETOR_DATA")
    "$venv/bin/python" "tests/peers/$script.py" "$RHETOR_BIN" ${more[@]+"${more[@]}"} || status=1
done
exit $status
