#!/bin/bash
# The quick tier of make test-faults: every row of docs/RELIABILITY.md once, with a seed that is not
# the recipes'.
# timeout: 1800
T= FAULTS=quick SEED=77 exec bash "$RHETOR_ROOT/tests/faults/run.sh"
