#!/bin/bash
# rhetor-label without a browser: import, tokens, what is refused, the blind order, quality control,
# export into rhetor-data's reader, the terminal; and kills: every answer that was acknowledged is there.
# KILLS=100 is what docs/LABEL.md reports.
# timeout: 300
# asan: yes
. "$(dirname "$0")/lib.sh"
[ -x "$bin/rhetor-label" ] || {
    echo "rhetor-label is not built here (libmicrohttpd, SQLite)"
    exit 77
}

label() { "$bin/rhetor-label" "$@"; }

# --- import -------------------------------------------------------------------------------------------
for i in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"Question $i\", \"completions\": [\"one $i\", \"two $i\", \"three $i\"], \"id\": $i}"
done >samples.jsonl
echo '{"prompt": "known", "completions": ["good", "bad"], "ranks": [1, 2]}' >gold.jsonl
expect 0 "6 items added, 0 there already; 2 labellers an item" -- "$bin/rhetor-label" import l.db samples.jsonl \
    --overlap 2 --gold-every 3 --repeat-every 4
expect 0 "0 items added, 6 there already" -- "$bin/rhetor-label" import l.db samples.jsonl
expect 0 "1 item added" -- "$bin/rhetor-label" import l.db --gold gold.jsonl
[ "$(stat -c %a l.db)" = 600 ] || fail "others may read the database"
echo '{"prompt": "x", "completions": ["only one"]}' >bad.jsonl
expect 65 "bad.jsonl:1:" "1 completion, expected 2 to 9" -- "$bin/rhetor-label" import l.db bad.jsonl
for prompt in '[]' '[1]' '[{"role": "user"}]'; do # the page could not show it
    echo "{\"prompt\": $prompt, \"completions\": [\"a\", \"b\"]}" >bad.jsonl
    expect 65 "bad.jsonl:1:" "message" -- "$bin/rhetor-label" import l.db bad.jsonl
done
echo '{"prompt": "x", "completions": ["a", "b"], "ranks": [1, "x"]}' >bad.jsonl
expect 65 "bad.jsonl:1:" "rank 2 is no number" -- "$bin/rhetor-label" import l.db --gold bad.jsonl
for name in '' $'\xff' $'a\e[31m' $'a\nb'; do
    expect 64 "a labeller's name" -- "$bin/rhetor-label" token l.db "$name"
done
echo '{"completions": ["a", "b"]}' >bad.jsonl
expect 65 '"prompt" is missing' -- "$bin/rhetor-label" import l.db bad.jsonl
expect 65 '--gold needs "ranks"' -- "$bin/rhetor-label" import l.db --gold samples.jsonl
echo "not a database" >other.db
expect 65 "other.db" -- "$bin/rhetor-label" report other.db
expect 74 "no such database" -- "$bin/rhetor-label" report none.db
printf 'quality: {low: 1, high: five}\n' >form.yaml
expect 78 "form.yaml:1:" "quality.high" -- "$bin/rhetor-label" import new.db --form form.yaml samples.jsonl
expect 64 "no such labeller" -- "$bin/rhetor-label" export l.db --who nobody

# --- who may do what ----------------------------------------------------------------------------------
ann=$(label token l.db ann) bob=$(label token l.db bob --admin)
[ ${#ann} = 32 ] || fail "a token of 128 bits, got $ann"
serve rhetor-label serve l.db
http GET /api/task "" && says " 401 "
http GET /api/task "" "Cookie: rhetor=${ann%?}x" && says " 401 "
http GET "/enter?token=$ann" "" && says " 303 " "HttpOnly" "SameSite=Strict"
http GET /api/task "" "Cookie: rhetor=$ann" && says " 200 " '"labeller":"ann"'
http POST /api/undo "{}" "Cookie: rhetor=$ann" "$json" "Origin: http://evil.example" && says " 401 "
http POST /api/undo "{}" "Cookie: rhetor=$ann" && says " 415 "
http POST /api/undo "$(printf '[%.0s' $(seq 30))" "Cookie: rhetor=$ann" "$json" && says " 400 " "nested"
http GET /api/report "" "Cookie: rhetor=$ann" && says " 403 "
http GET /report "" "Cookie: rhetor=$bob" && says " 200 " "Agreement"
http GET /../l.db "" "Cookie: rhetor=$bob" && says " 404 "
http GET /etc/passwd "" && says " 404 "
http GET / "" && says " 200 " "Content-Security-Policy: default-src 'none'; script-src 'self'"
http POST /api/answer "$(head -c 1100000 /dev/zero | tr '\0' ' ')" "Cookie: rhetor=$ann" "$json" && says " 413 "

# --- answers ------------------------------------------------------------------------------------------
# task TOKEN: the labeller's next task: $assignment, $prompt, $k; answers ID TOKEN [RANKS]
task() {
    http GET /api/task "" "Cookie: rhetor=$1" || return 1
    assignment=$(grep -oE '"assignment":[0-9]+' <<<"$reply" | cut -d: -f2)
    prompt=$(grep -oE '"prompt":"[^"]*"' <<<"$reply" | cut -d'"' -f4)
    shown=$(grep -oE '"completions":\[[^]]*\]' <<<"$reply")
}
answer() {
    local k ranks quality
    k=$(grep -o '","' <<<"$shown" | wc -l)
    ranks=${3:-$(seq -s, 1 $((k + 1)))} quality=$(sed 's/[0-9]/4/g' <<<"$ranks")
    http POST /api/answer "{\"assignment\":$assignment,\"id\":\"$1\",\"seconds\":2,\"body\":{\"rank\":[$ranks],\"quality\":[$quality],\"flags\":[[],[],[]]}}" \
        "Cookie: rhetor=$2" "$json"
}
task "$ann"
[ "$prompt" = "Question 1" ] || fail "the first task is $prompt"
answer first "$ann" 1,2 && says " 422 "
answer first "$bob" && says " 422 " "not yours"
first=$shown
answer first "$ann" 2,1,2 && says " 200 " '"n":1'
answer first "$ann" 1,1,1 && says " 200 " '"n":0' # sent twice: the first one counts
task "$ann"
answer a2 "$ann" && task "$ann"
[ "$prompt" = known ] || fail "the third task is $prompt, not one of quality control"
answer a3 "$ann" && task "$ann"
[ "$prompt" = "Question 1" ] || fail "the fourth task is $prompt, not a repetition"
answer a4 "$ann"
task "$bob"
[ "$prompt" = "Question 1" ] && [ "$shown" != "$first" ] || fail "bob's first task is $prompt in ann's order"
answer first "$bob" && says " 422 " "another answer's" # which ann has sent
answer b1 "$bob" && task "$bob" && answer b2 "$bob"
label export l.db --who ann >ann.jsonl 2>/dev/null
[ "$(wc -l <ann.jsonl)" = 2 ] || fail "ann's answers without quality control and repetitions: $(cat ann.jsonl)"
second=$(sed 's/.*\["\([^"]*\)","\([^"]*\)".*/\2/' <<<"$first")
best=$(head -n 1 ann.jsonl | sed -E 's/.*"completions": ?\[([^]]*)\].*"ranks": ?\[([^]]*)\].*/\1|\2/')
[[ $best == *"\"$second\""* ]] || fail "no $second in $best"
label export l.db --who consensus >consensus.jsonl 2>/dev/null
[ "$(grep -c '"labellers":\["ann","bob"\]' consensus.jsonl)" = 2 ] || fail "consensus: $(cat consensus.jsonl)"
expect 0 "2 records" -- "$bin/rhetor-data" inspect --kind ranked consensus.jsonl
label report l.db >report.txt
grep -qE "^pairs, ties as a class +[01]\.[0-9]{3} .* 2$" report.txt || fail "report: $(cat report.txt)"
grep -qE "pairs as known \(gold\) +[01]\.000" report.txt || fail "gold: $(cat report.txt)"

# --- the terminal -------------------------------------------------------------------------------------
label token l.db cleo >/dev/null
printf '1 1\n2 1=3\n5\n3 hallucination\n7\ns too easy\nq\n' | label terminal l.db cleo >terminal.out ||
    fail "terminal: $(cat terminal.out)"
grep -q "1 stands there twice; once more" terminal.out || fail "terminal: $(cat terminal.out)"
label export l.db --who cleo 2>/dev/null >cleo.jsonl
grep -q '"hallucination"' cleo.jsonl && grep -qE '"ranks": ?\[[12],[12],[12]\]' cleo.jsonl || fail "cleo: $(cat cleo.jsonl)"

# what is written stays as it is; what would move the cursor or reverse the text is shown by its name
printf '%s\n' '{"prompt": [{"role": "user", "content": "a\u202eb\u009b31m\u001b[31m\u007f"}]}' >write.jsonl
must "$bin/rhetor-label" import w.db write.jsonl
label token w.db cleo >/dev/null
printf 'def f():\n    return 1 \xff\n.\n' | label terminal w.db cleo >terminal.out || fail "terminal: $(cat terminal.out)"
grep -qF '    a<U+202E>b<U+009B>31m<U+001B>[31m<U+007F>' terminal.out || fail "terminal: $(cat -v terminal.out)"
label export w.db --demos 2>/dev/null | grep -qF '"completion":"def f():\n    return 1 '$'\xef\xbf\xbd"' ||
    fail "written in the terminal: $(label export w.db --demos)"

# --- kills --------------------------------------------------------------------------------------------
for i in $(seq 2000); do echo "{\"prompt\": \"more $i\", \"completions\": [\"one\", \"two\"]}"; done >more.jsonl
must "$bin/rhetor-label" import l.db more.jsonl --gold-every 0 --repeat-every 0
kill $server && wait $server || fail "the server did not end well"
serve rhetor-label serve l.db
: >acknowledged
n=0
client() {
    local i=0
    while [ ! -e stop ]; do
        task "$1" 2>/dev/null && i=$((i + 1)) && answer "$2.$i" "$1" 2>/dev/null && grep -q '"ok":true' <<<"$reply" &&
            echo "$prompt" >>"acknowledged.$2"
    done
}
client "$ann" ann &
client "$bob" bob &
for _ in $(seq "${KILLS:-8}"); do
    sleep "0.$((RANDOM % 9 + 1))"
    kill -9 $server
    wait $server 2>/dev/null
    serve rhetor-label serve l.db
done
sleep 1
touch stop
wait %2 %3 2>/dev/null
for who in ann bob; do
    label export l.db --who $who 2>/dev/null | grep -oE '"prompt": ?"more [0-9]+"' | grep -oE 'more [0-9]+' | sort >saved
    sort -u acknowledged.$who | grep more >said
    [ -s said ] || fail "$who had no answer acknowledged"
    lost=$(comm -13 saved said)
    [ -z "$lost" ] || fail "acknowledged to $who and lost: $lost"
    n=$((n + $(wc -l <said)))
done
echo "${KILLS:-8} kills, $n answers acknowledged, none lost"
