#!/bin/bash
# run.sh: the same work in Rhetor and in its peers, in turns. make bench-peers calls it.
#   tests/peers/run.sh [--rounds N] [CASE...]     cases as compare.py knows them; none: everything
# Makes a virtual environment outside the tree and installs the peers' current releases from the
# package index (some GB with the default PyTorch; with one installed there nothing is fetched).
# Environment:
#   RHETOR_PEERS      the virtual environment (~/.cache/rhetor-peers)
#   RHETOR_BIN        the programs (bin)
#   OMP_NUM_THREADS   threads of both sides (all cores)
# Needs python3 with venv; for torch.compile a C++ compiler. Neither the product nor make test does.
set -eu
cd "$(dirname "$0")/../.."
venv=${RHETOR_PEERS:-$HOME/.cache/rhetor-peers}
export RHETOR_BIN=${RHETOR_BIN:-$PWD/bin}
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
export OMP_NUM_THREADS PYTHONDONTWRITEBYTECODE=1
[ -x "$RHETOR_BIN/rhetor-bench" ] || { echo "run.sh: $RHETOR_BIN/rhetor-bench is missing: make" >&2; exit 64; }

packages="torch tiktoken tokenizers transformers trl safetensors h5py tensorboard"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# shellcheck disable=SC2086 # the list is to be split
"$venv/bin/python" -c 'import '"${packages// /, }" 2>/dev/null || "$venv/bin/pip" install --quiet $packages

"$venv/bin/python" tests/peers/compare.py "$@"
[ $# = 0 ] || exit 0
status=0
for more in tokenizer hf; do
    [ -e tests/peers/$more.py ] || continue
    printf '\n--- %s\n' $more
    "$venv/bin/python" tests/peers/$more.py "$RHETOR_BIN" || status=1
done
exit $status
