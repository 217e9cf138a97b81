#!/bin/bash
# rhetor-serve without a browser: completions equal to rhetor-generate's and rhetor-eval's, whatever else
# is served; streaming, stops, limits, refusals; overload is 429; a score is the reward model's; SIGTERM
# finishes what was begun.
# timeout: 300
# asan: yes
. "$(dirname "$0")/lib.sh"
[ -x "$bin/rhetor-serve" ] || {
    echo "rhetor-serve is not built here (libmicrohttpd, SQLite)"
    exit 77
}

tiny_data 300 --documents 200 --documents-heldout 10 --sft 100 --sft-heldout 10 \
    --compare 20 --compare-heldout 10 --ppo 10 --eval 10
export RUN=.
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" train.steps=20 data.heldout= model.context=256
must "$bin/rhetor-sft" "$tiny/sft.yaml" train.steps=5 data.mix_ratio=0 data.mix=
tiny_ranked sft
must "$bin/rhetor-reward" "$tiny/reward.yaml" train.steps=2
expect 64 "which model?" -- "$bin/rhetor-serve"
expect 64 "give --key-file or --labels too" -- "$bin/rhetor-serve" -m sft --listen 0.0.0.0
expect 64 "a name without quotes" -- "$bin/rhetor-serve" -m $'\xff'=sft
expect 64 "two models are called sft" -- "$bin/rhetor-serve" -m sft -m sft/

serve rhetor-serve -m sft -m rm=reward
ask='{"model": "sft", "messages": [{"role": "user", "content": "Where does Ana live?"}], "seed": 3, "max_tokens": 20}'

# --- the same text as rhetor-generate, the same log-probabilities as rhetor-eval --------------------------
http POST /v1/chat/completions "$ask" "$json" && says " 200 " '"role":"assistant"' '"completion_tokens":'
text=$(grep -oE '"content":"([^"\\]|\\.)*"' <<<"$reply")
echo '{"prompt": "Where does Ana live?"}' >prompt.jsonl
"$bin/rhetor-generate" -m sft --in prompt.jsonl --seed 3 --max-new 20 2>/dev/null >generated
grep -qF "${text#*:}" generated || fail "served $text, rhetor-generate says $(cat generated)"
http POST /v1/completions '{"prompt": "Ana lives in Rome.", "echo": true, "logprobs": 1, "max_tokens": 0}' "$json"
says '"text":"Ana lives in Rome."'
http POST /v1/completions '{"prompt": "Ana", "echo": true, "max_tokens": 0}' "$json" && says '"text":"Ana"'
http POST /v1/completions '{"prompt": "Ana lives in Rome.", "echo": true, "logprobs": 1, "max_tokens": 0}' "$json"
served=$(grep -oE '"token_logprobs":\[null,[^]]*' <<<"$reply" | cut -d, -f2-)
echo '{"text": "Ana lives in Rome."}' >text.jsonl
own=$("$bin/rhetor-eval" logprobs -m sft text.jsonl | grep -oE '"logprobs":\[[^]]*' | cut -d[ -f2)
paste -d' ' <(tr , '\n' <<<"$served") <(tr , '\n' <<<"$own") | awk 'NF != 2 || ($1 - $2) ^ 2 > 1e-14 { exit 1 }' ||
    fail "served $served, rhetor-eval says $own"
http POST /v1/score '{"prompt": "Where does Ana live?", "completions": ["In Rome.", "No."]}' "$json" && says '"model":"rm"'
served=$(grep -oE '"score":-?[0-9.e-]+' <<<"$reply" | cut -d: -f2 | head -n 1)
echo '{"prompt": "Where does Ana live?", "completion": "In Rome."}' >one.jsonl
own=$("$bin/rhetor-eval" reward -m reward one.jsonl | grep -oE '"score": ?-?[0-9.e-]+' | cut -d: -f2)
awk -v a="$served" -v b="$own" 'BEGIN { exit (a - b) ^ 2 > 1e-10 }' || fail "score $served, rhetor-eval says $own"

# --- rhetor-data rank by given scores, by a reward model, by a program --------------------------------------
echo '{"prompt": "Where does Ana live?", "completions": ["In Rome.", "No.", "No."], "scores": {"mine": [1, 3, 2]}}' >k.jsonl
ranks() { "$bin/rhetor-data" rank "$@" k.jsonl 2>rank.err | grep -oE '"(ranks|scores)": ?\[[^]]*\]' | tr -d ' \n'; }
[[ $(ranks --by scores.mine) == *'"ranks":[3,1,2]'* ]] || fail "by scores.mine: $(ranks --by scores.mine) $(cat rank.err)"
by_model=$(ranks --reward reward)
first=$(sed -E 's/.*"scores":\[([^],]*).*/\1/' <<<"$by_model")
awk -v a="$first" -v b="$own" 'BEGIN { exit (a - b) ^ 2 > 1e-10 }' || fail "rank --reward: $by_model, rhetor-eval says $own"
cat >judge.sh <<'EOF'
while read -r line; do case $line in *'"completion":"In Rome."'*) echo 2 ;; *) echo 0.5 ;; esac; done
EOF
[[ $(ranks --program "bash judge.sh") == *'"ranks":[1,2,2]'* ]] || fail "by a program: $(ranks --program "bash judge.sh") $(cat rank.err)"
expect 64 "rank by what?" -- "$bin/rhetor-data" rank k.jsonl
expect 65 "k.jsonl:1:" "has 0 numbers for 3" -- "$bin/rhetor-data" rank --by none k.jsonl
expect 65 "k.jsonl:1:" -- "$bin/rhetor-data" rank --program 'while read -r l; do echo good; done' k.jsonl

# --- rhetor-label gives out first what this model is least sure of -----------------------------------------
cat >samples.jsonl <<'EOF'
{"prompt": "Where does Ana live?", "completions": ["In Rome.", "No."]}
{"prompt": "Where does Ana live?", "completions": ["In Rome.", "In Rome."]}
EOF
must "$bin/rhetor-label" import l.db samples.jsonl --reward reward
must "$bin/rhetor-label" token l.db ann
printf 'q\n' | "$bin/rhetor-label" terminal l.db ann >terminal.out
[ "$(grep -c 'In Rome' terminal.out)" = 2 ] || fail "two equal answers are not the first task: $(cat terminal.out)"

# --- the loop: people between two steps of a recipe, then a model that follows them ------------------------
mkdir in
ln -s "$PWD/sft" in/sft
for i in 1 2 3; do echo "{\"prompt\": \"Where does Ana live? $i\"}"; done >in/prompts.jsonl
human() {
    RUN= K=2 MAX_NEW=8 "$bin/rhetor-pipeline" "$root/configs/human" --run loop --data in ppo:ppo.episodes=8 ppo:ppo.batch=8 \
        ppo:ppo.minibatches=2 ppo:ppo.max_response=8 reward:train.batch=2 reward:data.on_long=drop ppo:data.on_long=drop
}
status=0
human >human.out 2>&1 || status=$?
[ $status = 75 ] && grep -q "3 items of .*labels.db still lack answers" human.out human.out loop/*.log loop/*/*.log 2>/dev/null ||
    fail "the recipe left with $status before people came: $(cat human.out)"
must "$bin/rhetor-label" token loop/labels.db bea
printf '1 2\n5\n3\n1 2\n5\n3\n2 1\n2\n6\n' | "$bin/rhetor-label" terminal loop/labels.db bea >terminal.out
grep -q "nothing is left to do" terminal.out || fail "bea is not done: $(cat terminal.out)"
human >human.out 2>&1 || fail "after people came: $(cat human.out)"
[ "$(wc -l <loop/ranked.jsonl)" = 3 ] && grep -q '"labeller":"bea"' loop/ranked.jsonl || fail "rankings: $(cat loop/ranked.jsonl)"
must "$bin/rhetor-ckpt" verify loop/ppo

# --- whatever else is served ------------------------------------------------------------------------------
for i in $(seq 24); do
    (http POST /v1/completions "{\"prompt\": \"Ana lives\", \"n\": 3, \"max_tokens\": 60, \"temperature\": 1.$i}" "$json") &
done
for _ in 1 2 3; do
    http POST /v1/chat/completions "$ask" "$json" && says "$text"
done
# streamed, the pieces are the same text
http POST /v1/chat/completions "${ask%\}}, \"stream\": true}" "$json" && says "text/event-stream" "data: [DONE]"
pieces=$(grep -oE '"delta":\{"content":"([^"\\]|\\.)*"' <<<"$reply" | sed -E 's/"delta":\{"content":"(.*)"$/\1/' | tr -d '\n')
[ "\"content\":\"$pieces\"" = "$text" ] || fail "streamed $pieces, at once $text"
wait_all() { for j in $(jobs -p); do [ "$j" = "$server" ] || wait "$j"; done; }
wait_all

# --- stops, refusals, what is not ours -----------------------------------------------------------------
http POST /v1/completions '{"prompt": "Ana lives in", "stop": ["a", "e", "i", "o"], "seed": 1, "max_tokens": 50}' "$json"
says '"finish_reason":"stop"'
grep -oE '"text":"[^"]*"' <<<"$reply" | cut -d'"' -f4 | grep -q '[aeio]' && fail "a stop text is in $reply"
# where two stop texts end together, the one that begins first counts
both=
for seed in 1 2 3 4 5 6 7 8; do
    ask="{\"prompt\": \"Ana lives in\", \"seed\": $seed, \"max_tokens\": 30"
    http POST /v1/completions "$ask}" "$json"
    whole=$(grep -oE '"text":"[^"]*"' <<<"$reply" | cut -d'"' -f4)
    for ((i = 1; i + 3 <= ${#whole}; i++)); do
        first=${whole:i:3} last=${whole:i+2:1}
        [[ $first =~ ^[a-zA-Z]+$ && ${whole:0:i+2} != *"$last"* ]] || continue
        http POST /v1/completions "$ask, \"stop\": [\"$first\", \"$last\"]}" "$json"
        says "\"text\":\"${whole:0:i}\"" '"finish_reason":"stop"'
        both=yes
    done
done
[ -n "$both" ] || fail "no two stop texts to be tried, the last answer is $whole"
# what is echoed stops nothing
http POST /v1/completions '{"prompt": "Ana", "echo": true, "stop": "na", "max_tokens": 1, "seed": 1}' "$json" && says '"text":"Ana' '"finish_reason":"length"'
http POST /detokenize '{"tokens": "x"}' "$json" && says " 400 " '\"tokens\" must be a list'
http POST /v1/chat/completions '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}' "$json" && says " 400 " 'is no text'
http POST /v1/completions '{"prompt": "x", "repetition_penalty": 1.2}' "$json" && says " 400 " 'repetition_penalty' 'not supported'
http POST /v1/completions '{"prompt": "x", "min_p": 0.1}' "$json" && says " 400 " 'min_p' 'not supported'
http POST /v1/completions '{"prompt": "x", "logit_bias": {"1": 2}}' "$json" && says " 400 " 'logit_bias' 'not supported'
http POST /v1/completions '{"prompt": ""}' "$json" && says " 400 " "the prompt is empty"
http POST /v1/completions '{"prompt": [1, 99999]}' "$json" && says " 400 " "99999"
http POST /v1/completions '{"model": "gpt-4", "prompt": "x"}' "$json" && says " 400 " "there is no gpt-4"
http POST /v1/completions '{"model": "rm", "prompt": "x"}' "$json" && says " 400 " "is a reward model"
http POST /v1/completions '{"prompt": "x", "temperature": -1}' "$json" && says " 400 " '\"temperature\" must be'
http POST /v1/completions '{"prompt": "x"' "$json" && says " 400 " "no JSON"
http POST /v1/completions "$(printf '{"prompt": "%s"}' "$(head -c 20000 /dev/zero | tr '\0' x)")" "$json" && says " 400 " "context is 256"
http GET /v1/completions "" && says " 405 "
http GET /v1/models "" && says '"id":"sft"' '"id":"rm"'
http GET /health "" && says '"status":"ok"'
http POST /tokenize '{"prompt": "Ana lives"}' "$json" && says '"tokens":['
ids=$(grep -oE '"tokens":\[[^]]*\]' <<<"$reply")
http POST /detokenize "{$ids}" "$json" && says '"prompt":"Ana lives"'
http GET /metrics "" && says 'rhetor_tokens_total{model="sft"}'

# --- SIGTERM finishes what was begun; overload ------------------------------------------------------------
(http POST /v1/completions '{"prompt": "Ana", "n": 8, "max_tokens": 200, "seed": 1}' "$json"; echo "$reply" >last) &
sleep 0.3
kill $server
wait $server || fail "the server left with $?: $(cat serve.log)"
wait
grep -q ' 200 ' last && grep -q '"usage"' last || fail "what was begun was not finished: $(cat last)"
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >key
serve rhetor-serve -m sft -m rm=reward --slots 1 --queue 2 --key-file key
http GET /v1/models "" && says " 401 "
http GET /v1/models "" "Authorization: Bearer $(cat key)x" && says " 401 "
auth="Authorization: Bearer $(cat key)"
# its cookie is not that of rhetor-label on another port of the host
http GET "/enter?token=$(cat key)" "" && says " 303 " "Set-Cookie: rhetor-key=$(cat key); HttpOnly; SameSite=Strict"
http GET /v1/models "" "Cookie: rhetor=$(cat key)" && says " 401 "
http GET /v1/models "" "Cookie: rhetor-key=$(cat key)" && says " 200 "
http GET /v1/models "" "$auth" && says " 200 "
for i in $(seq 8); do
    (http POST /v1/completions '{"prompt": "Ana", "max_tokens": 200}' "$json" "$auth"; head -n 1 <<<"$reply" >"status.$i"
        grep -q ' 429 ' <<<"$reply" && grep -qi 'Retry-After: 1' <<<"$reply" && touch retry) &
done
wait_all
[ "$(cat status.* | grep -cvE ' 200 | 429 ')" = 0 ] && [ -e retry ] && grep -q ' 200 ' status.* ||
    fail "eight requests, one place, two may wait: $(cat status.*)"
kill $server && wait $server || fail "the second server left with $?"

# --- a comparison counts for the models that it was of, whoever else wrote the same ---------------------------
must "$bin/rhetor-label" import votes.db samples.jsonl
auth="Authorization: Bearer $("$bin/rhetor-label" token votes.db ann)"
serve rhetor-serve -m sft --labels votes.db
vote() {
    http POST /api/vote "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"rank\": [1, 2],
        \"answers\": [{\"model\": \"$1\", \"text\": \"yes\"}, {\"model\": \"$2\", \"text\": \"no\"}]}" "$json" "$auth"
    says " 200 "
}
vote a b && vote a b && vote b a && vote c a
http GET /api/arena "" "$auth" && says '"comparisons":3' \
    '"model":"a"' '"wins":1,"ties":0,"losses":2}' '"wins":1,"ties":0,"losses":1}' '"wins":1,"ties":0,"losses":0}'
http POST /api/vote '{"messages": [{"role": "user"}], "rank": [1, 2], "answers": [{"model": "a", "text": "1"}, {"model": "b", "text": "2"}]}' \
    "$json" "$auth" && says " 422 " 'needs a \"role\"'
kill $server && wait $server || fail "the third server left with $?"
