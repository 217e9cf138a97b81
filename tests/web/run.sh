#!/bin/bash
# run.sh: make test-web. The pages in a real browser, without a window: Debian's chromium, driven by
# its python3-selenium, which are installed where they are missing. Skipped (77) where that cannot be.
#   tests/web/run.sh [PICTURES]   a folder for screenshots
# T in the environment: only tests whose name holds it. PYTHON: a Python that has openai and
# lm_eval[api], whose tests are skipped without one (test_clients.py).
# The last line is "N passed, N failed[, N skipped]".
set -u
cd "$(dirname "$0")/../.." || exit 2
export RHETOR_BIN=${RHETOR_BIN:-$PWD/bin} PICTURES=${1:-}
if ! python3 -c 'import selenium' 2>/dev/null && ! /usr/bin/python3 -c 'import selenium' 2>/dev/null ||
    ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    tools/deps.sh chromium chromium-driver python3-selenium || {
        echo "no browser here"
        exit 77
    }
fi
python=python3
$python -c 'import selenium' 2>/dev/null || python=/usr/bin/python3
passed=0 failed=0 skipped=0
for test in tests/web/test_*.py; do
    while IFS= read -r line; do
        echo "$line"
        case $line in
        "ok "*) passed=$((passed + 1)) ;;
        "skipped "*) skipped=$((skipped + 1)) ;;
        "FAILED "*) failed=$((failed + 1)) ;;
        esac
    done < <($python "$test" 2>&1 || echo "FAILED $test left with $?")
done
echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
[ $failed = 0 ]
