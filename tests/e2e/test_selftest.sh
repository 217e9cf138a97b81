#!/bin/bash
# rhetor-ppo --selftest: all of its checks hold, it leaves nothing behind, and it needs no launcher.
# asan: yes
. "$(dirname "$0")/lib.sh"

mkdir own
TMPDIR=$PWD/own expect 0 "all checks hold" -- "$bin/rhetor-ppo" --selftest
[ "$(grep -cE '^  ok   ([1-9]|10)\. ' expect.out)" = 10 ] || fail "expected ten checks: $(cat expect.out)"
[ -z "$(ls own)" ] || fail "the self-test left $(ls own)"
TMPDIR=nowhere expect 74 "nowhere/rhetor-selftest-" "TMPDIR" -- "$bin/rhetor-ppo" --selftest
expect 64 "--selftest runs on one rank" -- mpirun -n 2 --oversubscribe --bind-to none "$bin/rhetor-ppo" --selftest
