#!/bin/bash
# asan: yes
# rhetor-data best: the best of each record's completions as a demonstration, from several files, by any
# numbers beside them; what was cut off or is too low is left out; damaged records.
. "$(dirname "$0")/lib.sh"
data=$bin/rhetor-data
cat >a.jsonl <<'END'
{"prompt": "p", "id": 1, "completions": ["a", "b", "c"], "scores": [1, 3, 3], "ranks": [2, 1, 1]}
{"prompt": "q", "completions": ["a", "b"], "scores": [5, 1], "stopped": [false, true]}
{"prompt": "r", "completions": ["a", "b"], "scores": [-1, -2]}
END
cat >b.jsonl <<'END'
{"prompt": "s", "completions": ["x", "y"], "scores": {"rm": [0.5, 0.25]}, "gold_scores": [0, 2]}
END
must "$data" best --out out.jsonl a.jsonl
[ "$(sed -n 's/.*"completion":"\(.\)".*/\1/p' out.jsonl | tr -d '\n')" = bba ] || fail "$(cat out.jsonl)"
grep -q '"id":1' out.jsonl || fail "other members are gone: $(cat out.jsonl)"
! grep -qE 'completions|stopped|ranks|scores' out.jsonl || fail "lists are left: $(cat out.jsonl)"
expect 0 "2 of 3 records" -- "$data" best --min 0 --out out.jsonl a.jsonl
must "$data" best --by scores.rm --out out.jsonl b.jsonl
grep -q '"completion":"x","score":0.5' out.jsonl || fail "by scores.rm: $(cat out.jsonl)"
must "$data" best --by gold_scores --out out.jsonl b.jsonl b.jsonl
[ "$(grep -c '"completion":"y","score":2' out.jsonl)" = 2 ] || fail "two files: $(cat out.jsonl)"
must "$data" inspect --kind demos out.jsonl
expect 65 "none of 3 records has a finished answer of at least 9" -- "$data" best --min 9 --out none.jsonl a.jsonl
[ ! -e none.jsonl ] || fail "an empty file was written"
expect 65 'b.jsonl:1: "scores" has 0 numbers for 2 completions' -- "$data" best --out out.jsonl b.jsonl
echo '{"prompt": "p", "completions": ["a", 3], "scores": [1, 2]}' >bad.jsonl
expect 65 "bad.jsonl:1: completion 2 is no text" -- "$data" best --out out.jsonl bad.jsonl
echo '{"prompt": "p"}' >bad.jsonl
expect 65 'bad.jsonl:1: no "completions"' -- "$data" best --out out.jsonl bad.jsonl
expect 64 "no file given" -- "$data" best
