#!/bin/bash
# A launcher that does not end with its ranks, as mpirun does when the way to a node is cut: it is ended
# half a minute after the stage's last word, which counts.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
cat >stuck <<'END'
#!/bin/bash
"$@"
sleep 900
END
chmod +x stuck
pipeline=("$bin/rhetor-pipeline" "$tiny" --launch "$PWD/stuck" --until pretrain pretrain:train.steps=2)

SECONDS=0
must "${pipeline[@]}" --run done
grep -q "its launcher is still there" must.out || fail "$(cat must.out)"
grep -q "pretrain.*done in" must.out || fail "$(cat must.out)"
[ $SECONDS -lt 120 ] || fail "it took $SECONDS s"

status=0
SECONDS=0
RHETOR_FAULT=forward:0:2:hang "${pipeline[@]}" --run failed pretrain:dist.hang_seconds=1 >failed.out 2>&1 || status=$?
[ $status = 70 ] || fail "left with $status, expected 70: $(cat failed.out)"
grep -q "its launcher is still there" failed.out || fail "$(cat failed.out)"
[ $SECONDS -lt 120 ] || fail "it took $SECONDS s"
! pgrep -f "$PWD/stuck" >/dev/null || fail "the launcher is still there"
