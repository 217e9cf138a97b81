#!/bin/bash
# test_tokenizer.sh: rhetor-data tokenizer: training by any number of threads, others' files,
# counting in blocks.
# asan: yes
. "$(dirname "$0")/lib.sh"
data=$bin/rhetor-data

# --- training: threads, ties, documents ------------------------------------------------------------
for i in $(seq 400); do echo "The cat number $i and the dog's house, 水は低いところ<|endoftext|>xy ab"; done >cats.txt
for threads in 1 3; do
    OMP_NUM_THREADS=$threads must "$data" tokenizer --vocab 320 --out "t$threads.json" cats.txt
    OMP_NUM_THREADS=$threads must "$data" tokenizer --vocab 320 --tie-break bytes --out "b$threads.json" cats.txt
done
cmp -s t1.json t3.json && cmp -s b1.json b3.json || fail "another number of threads, another tokenizer"
cmp -s t1.json b1.json && fail "--tie-break changes nothing"
grep -qF '<|end' <(sed -n '/"merges"/,$p' t1.json) && fail "something was learned from <|endoftext|>"
expect 64 "--tie-break is" "expected hf or bytes" -- "$data" tokenizer --vocab 320 --tie-break x --out x.json cats.txt

# --- a text in blocks has as many tokens as in one piece ---------------------------------------------
for _ in $(seq 1200); do cat cats.txt; done >many.txt # more than a block
whole=$("$data" encode --ids --tokenizer t1.json <(printf '{"text":"%s\\n"}\n' "$(sed ':a;N;$!ba;s/\n/\\n/g' cats.txt)") |
    tr , '\n' | wc -l)
many=$("$data" encode --count --tokenizer t1.json many.txt | sed -E 's/.*"tokens": ([0-9]+).*/\1/')
[ "$many" = $((1200 * whole)) ] || fail "1200 times $whole tokens became $many"

# --- others' files ------------------------------------------------------------------------------
mkdir gpt
printf '{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3, "<mask>": 4}' >gpt/vocab.json
printf '#version: 0.2\na b\n' >gpt/merges.txt
echo '{"text":"abba <mask>b"}' >in.jsonl
for given in gpt gpt/vocab.json gpt/vocab.json,gpt/merges.txt; do
    must "$data" tokenizer --from "$given" --out gpt.json
    expect 65 "in.jsonl:1: " "byte 0x20" -- "$data" encode --ids --tokenizer gpt.json in.jsonl
done
echo '{"added_tokens_decoder": {"4": {"content": "<mask>", "lstrip": true, "special": true}}}' >gpt/tokenizer_config.json
expect 0 '{"ids":[2,1,0,4,1]}' -- "$data" encode --ids --specials --tokenizer gpt in.jsonl
printf 'YQ== 0\nYg= 1\n' >bad.tiktoken
expect 65 "bad.tiktoken:2: " "not base64" -- "$data" tokenizer --from bad.tiktoken --out x.json
for i in $(seq 0 255); do printf '%b' "\\x$(printf %02x "$i")" | base64 | sed "s/$/ $i/"; done >all.ranks
expect 78 "expected gpt2, r50k" -- "$data" tokenizer --from all.ranks --out x.json
expect 78 'no encoding "x"' -- "$data" tokenizer --from all.ranks --encoding x --out x.json
must "$data" tokenizer --from all.ranks --encoding o200k --out o.json
expect 0 '{"ids":[97,98,98,97,32,60,109,97,115,107,62,98]}' -- "$data" encode --ids --tokenizer o.json in.jsonl
expect 64 "nothing is trained" -- "$data" tokenizer --from all.ranks --out x.json cats.txt
expect 74 "nowhere: no such file" -- "$data" encode --ids --tokenizer nowhere in.jsonl
