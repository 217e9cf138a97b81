#!/bin/bash
# test_judge.sh: the judge of sentiment, which must fail on shuffled labels; and the recipe
# configs/smollm2-sentiment in miniature, from a GGUF file of a tiny model.
# timeout: 900
. "$(dirname "$0")/lib.sh"
eval=$bin/rhetor-eval

# --- sentences with a hidden rule: three good words, three bad ones, among neutral ones
mkdir -p data/sentiment
awk 'BEGIN { srand(7)
    split("the a this an it", first); split("film story cast plot scene light music end", noun)
    split("fine warm bright", good); split("dull flat stale", bad)
    for (i = 0; i < 480; i++) {
        label = rand() < 0.5
        opening = first[1 + int(rand() * 5)] " " noun[1 + int(rand() * 8)] " is very"
        word = label ? good[1 + int(rand() * 3)] : bad[1 + int(rand() * 3)]
        print "{\"text\": \"" opening " " word " and has " noun[1 + int(rand() * 8)] " .\", \"label\": " label "}"
    } }' >data/sentiment/sentence_polarity.jsonl
head -n 240 data/sentiment/sentence_polarity.jsonl >train.jsonl
tail -n 240 data/sentiment/sentence_polarity.jsonl >held.jsonl
expect 0 '"texts": 240' '"accuracy": 1.0' -- "$eval" judge --train train.jsonl held.jsonl
expect 0 -- "$eval" judge --shuffle --train train.jsonl held.jsonl
accuracy=$(grep -o '"accuracy": *[0-9.]*' expect.out | grep -o '[0-9.]*$')
awk "BEGIN { exit !($accuracy < 0.8) }" || fail "a judge of shuffled labels is right in $accuracy"
echo '{"prompt": "x", "completions": ["warm and bright", "dull", "warm and bright"]}' >answers.jsonl
expect 0 '"texts": 3' '"positive": 0.6667' '"distinct_2": 0.5' -- "$eval" judge --train train.jsonl answers.jsonl
expect 64 "--train" -- "$eval" judge held.jsonl
echo '{"text": "no label"}' >bad.jsonl
expect 65 "bad.jsonl:1" '"label": 0 or 1' -- "$eval" judge --train bad.jsonl held.jsonl
: >empty.jsonl
expect 65 "empty.jsonl: holds no texts" -- "$eval" judge --train train.jsonl empty.jsonl

# --- the recipe
must "$bin/rhetor-data" tokenizer --vocab 300 --out tokenizer.json data/sentiment/sentence_polarity.jsonl
must "$bin/rhetor-data" encode --tokenizer tokenizer.json --out corpus.h5 data/sentiment/sentence_polarity.jsonl
must "$bin/rhetor-pretrain" run.dir=base from.tokenizer=tokenizer.json model.family=llama model.layers=2 model.heads=4 \
    model.kv_heads=2 model.width=32 model.context=128 data.train=corpus.h5 train.steps=20 train.batch=8 optim.lr=3e-3
must "$bin/rhetor-ckpt" export --format gguf base base.gguf
export GGUF=$PWD/base.gguf SFT_STEPS=6 REWARD_STEPS=4 EPISODES=64 ANSWERS=10 LENGTH=12
must "$bin/rhetor-pipeline" "$root/configs/smollm2-sentiment" --run run --data data
for m in sft ppo ppo-shuffled; do
    [ "$(wc -l <"run/text_$m.jsonl")" = 10 ] || fail "text_$m.jsonl"
    grep -q '^{"text": "Continue this film review: ' "run/text_$m.jsonl" || fail "$(head -n 1 "run/text_$m.jsonl")"
done
grep -q '"positive"' run/.pipeline/table.log || fail "$(cat run/.pipeline/table.log)"
[ "$(grep -cE '^guard: ppo(-shuffled)?: perplexity under sft [0-9.]+ times its own .*(holds|fails)\), distinct bigrams [0-9.]+ times' \
    run/.pipeline/guards.log)" = 2 ] || fail "$(cat run/.pipeline/guards.log)"
[ "$(wc -l <run/pairs.jsonl)" -gt 20 ] || fail "pairs.jsonl"
grep -q '"chosen": ".*\(fine\|warm\|bright\).*"rejected": ".*\(dull\|flat\|stale\)' run/pairs.jsonl || fail "the order of pairs"
! grep -q '"chosen": ".*\(dull\|flat\|stale\).*"rejected"' run/pairs.jsonl || fail "a pair the wrong way round"
