#!/bin/bash
# The quick tier of make test-faults: every row of docs/RELIABILITY.md once.
# timeout: 1800
T= FAULTS=quick exec bash "$RHETOR_ROOT/tests/faults/run.sh"
