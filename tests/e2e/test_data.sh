#!/bin/bash
# test_data.sh: rhetor-data: text to tokens and back, corpora, looks into files, and what it says
# when something is wrong.
# asan: yes
. "$(dirname "$0")/lib.sh"
data=$bin/rhetor-data

# --- characters, as nanoGPT's shakespeare_char ---------------------------------------------------
printf 'To be, or not to be: that is the question.\n' >hamlet.txt
must "$data" tokenizer --chars --out chars.json hamlet.txt
must "$data" encode --tokenizer chars.json --no-eot --heldout 0.1 --heldout-tail --out train.h5 \
    --heldout-out tail.h5 hamlet.txt
expect 0 "38 tokens, 38 bytes" "documents: 1" "To be, or not" -- "$data" inspect train.h5
expect 0 "5 tokens, 5 bytes" "ion." -- "$data" inspect tail.h5
for command in tokenizer encode decode inspect split rank score; do
    "$data" "$command" --help | tr '\n' ' ' | grep -q "named - is standard input" || fail "$command --help"
done
expect 0 "stdin.h5: 1 document, 43 tokens" -- "$data" encode --tokenizer chars.json --no-eot --out stdin.h5 - <hamlet.txt
expect 0 "demonstrations: 1 record," -- "$data" inspect --kind demos - <<<'{"prompt":"a","completion":"b","id":1e999}'
expect 64 "the held-out tail of standard input" -- "$data" encode --tokenizer chars.json --no-eot --heldout 0.1 \
    --heldout-tail --out train.h5 --heldout-out tail.h5 - <hamlet.txt
printf '{"text":"to be"}\n{"text":"Q"}\n' >q.jsonl
expect 65 "q.jsonl:2: " "byte 0x51" -- "$data" encode --ids --tokenizer chars.json q.jsonl

# --- a trained tokenizer: ids and back, from a file and from standard input ------------------------
for i in 1 2 3 4 5 6 7 8; do echo "{\"text\":\"the cat and the dog and the cat number $i\"}"; done >cats.jsonl
must "$data" tokenizer --vocab 280 --out bpe.json cats.jsonl
must "$data" tokenizer --vocab 280 --special '<|im_start|>' --special '<|im_end|>' --out chat.json cats.jsonl
"$data" encode --ids --tokenizer bpe.json cats.jsonl >ids.jsonl || fail "encode --ids"
[ "$(wc -l <ids.jsonl)" = 8 ] || fail "8 texts gave $(wc -l <ids.jsonl) lines"
"$data" decode --tokenizer bpe.json - <ids.jsonl >back.jsonl || fail "decode"
cmp -s back.jsonl cats.jsonl || fail "decode does not undo encode: $(diff back.jsonl cats.jsonl)"
echo '{"text":"a<|endoftext|>\u0000"}' | "$data" encode --ids --tokenizer bpe.json - >plain.jsonl || fail "plain"
echo '{"text":"a<|endoftext|>\u0000"}' | "$data" encode --ids --specials --tokenizer bpe.json - >special.jsonl || fail "special"
grep -q ',0,' special.jsonl || fail "<|endoftext|> is not the id 0: $(cat special.jsonl)"
grep -q ',0,' plain.jsonl && fail "the text forged a special token: $(cat plain.jsonl)"
"$data" decode --tokenizer bpe.json plain.jsonl | grep -qF 'a<|endoftext|>\u0000' || fail "NUL is lost"

# --- corpora: held out by document, damage, wrong text -----------------------------------------------
: >empty.txt
expect 65 "e.h5 would be empty: the input has 0 usable documents" -- "$data" encode --tokenizer bpe.json --out e.h5 empty.txt
! grep -q heldout expect.out || fail "nothing was to be held out: $(cat expect.out)"
for i in $(seq 200); do echo "{\"text\":\"story $i of the cat\"}"; done | gzip >stories.jsonl.gz
must "$data" encode --tokenizer bpe.json --heldout 0.25 --out a.h5 --heldout-out b.h5 stories.jsonl.gz
a=$("$data" inspect --samples 0 a.h5 | sed -n 's/documents: \([0-9]*\).*/\1/p')
b=$("$data" inspect --samples 0 b.h5 | sed -n 's/documents: \([0-9]*\).*/\1/p')
[ $((a + b)) = 200 ] && [ "$b" -gt 20 ] && [ "$b" -lt 80 ] || fail "200 documents became $a and $b"
head -c 3000 a.h5 >cut.h5
expect 65 "cut.h5: " "truncated" -- "$data" inspect cut.h5
printf 'fine\nSch\xf6n\n' >latin1.txt
expect 65 "latin1.txt:2: invalid UTF-8, byte 0xF6 at column 4" -- \
    "$data" encode --tokenizer bpe.json --out c.h5 latin1.txt
expect 65 'ids.jsonl:1: missing "text"' -- "$data" encode --tokenizer bpe.json --out c.h5 ids.jsonl
[ ! -e c.h5 ] && [ ! -e c.h5.tmp ] || fail "a failure left c.h5 behind"
expect 74 "nowhere.txt" "No such file" -- "$data" encode --tokenizer bpe.json --out c.h5 nowhere.txt
expect 74 "nodir/c.h5" "No such file" -- "$data" encode --tokenizer bpe.json --out nodir/c.h5 cats.jsonl
expect 78 "end-of-text" "--no-eot" -- "$data" encode --tokenizer chars.json --out c.h5 hamlet.txt

# --- corpora: patterns, mixtures, duplicates, bad documents --------------------------------------------
mkdir many
for i in 1 2 3 4; do echo "the cat number $i" >many/$i.txt; done
cp many/1.txt many/5.txt
printf '{"text":"the dog"}\n{"text":\n{"text":"and the dog"}\n' >many/dogs.jsonl
expect 65 "many/dogs.jsonl:2:" -- "$data" encode --tokenizer bpe.json --out m.h5 'many/*'
expect 0 "m.h5: 6 documents" "1 malformed" "1 duplicate " "skipped: many/dogs.jsonl:2:" -- \
    "$data" encode --tokenizer bpe.json --out m.h5 --on-bad skip --dedup 'many/*'
expect 0 "m.h5: 14 documents" "weight 2: many/1.txt ..." "weight 1: many/dogs.jsonl" -- \
    "$data" encode --tokenizer bpe.json --on-bad skip --weight 2 'many/[1-5].txt' --weight 1 many/dogs.jsonl \
    --out m.h5 --weight 0.999999999 many/1.txt many/2.txt
expect 64 '--weight is "x"; expected a number from 0 to 1000' -- "$data" encode --weight x
expect 64 '--vocab is ""; expected a whole number from 257 up' -- "$data" tokenizer --vocab ''
expect 64 "--heldout 1: nothing would be left" -- "$data" encode --heldout 1
expect 74 "none*.txt" "no file matches" -- "$data" encode --tokenizer bpe.json --out m.h5 'none*.txt'
expect 0 "== many/1.txt" "== many/5.txt" -- "$data" inspect --samples 0 'many/?.txt'

# --- records -------------------------------------------------------------------------------------------
for i in $(seq 100); do echo "{\"query\":\"what is $i?\",\"reply\":\"number $i\"}"; done >qa.jsonl
fields="--fields prompt=query --fields completion=reply"
expect 0 "demonstrations: 100 records" "«number" "learned" "sequences: 100, of" "tokens, mean" -- "$data" inspect $fields -t bpe.json qa.jsonl
expect 0 "prompts: 100, of 11 to 13 bytes, mean" -- "$data" inspect --samples 0 $fields qa.jsonl # no tokenizer
must "$data" split $fields --heldout 0.2 --train qa_a.jsonl --heldout-out qa_b.jsonl qa.jsonl
sort qa_a.jsonl qa_b.jsonl | cmp -s - <(sort qa.jsonl) || fail "split lost or changed records"
expect 65 "qa.jsonl:1: " "no prompt" "data.fields" -- "$data" inspect --kind demos qa.jsonl
echo '{"query":' >>qa.jsonl
expect 65 "qa.jsonl:101:" "incomplete JSON" -- "$data" inspect $fields qa.jsonl
expect 0 "1 malformed" -- "$data" inspect $fields --skip-bad qa.jsonl
printf '{bad\n{"text":"x y"}\n' >first.jsonl # the first record, of texts and of others
expect 65 "first.jsonl:1:" -- "$data" inspect first.jsonl
expect 0 "1 malformed" "texts: 1, of 3" -- "$data" inspect --skip-bad first.jsonl
{ echo '{"a":' && cat qa.jsonl; } >qa_first.jsonl
expect 0 "2 malformed" -- "$data" inspect $fields --skip-bad qa_first.jsonl

# --- the embedded world ----------------------------------------------------------------------------------
must "$data" synth --out world --seed 7 --documents 20 --documents-heldout 5 --sft 40 --sft-heldout 5 \
    --compare 10 --compare-heldout 5 --ppo 10 --eval 5
[ "$(wc -l <world/sft.jsonl)" = 40 ] || fail "40 demonstrations are $(wc -l <world/sft.jsonl)"
expect 0 "all" "helpful" -- "$data" score --gold world/sft.jsonl
sed 's/"completion":\("[^"]*"\)/"completions":[\1,"","I do not know."]/' world/sft.jsonl >samples.jsonl
must "$data" rank --gold --noise 0.5 --seed 3 --out ranked.jsonl samples.jsonl
expect 0 "rankings: 40 records" -- "$data" inspect --kind ranked -t chat.json --template chatml ranked.jsonl
expect 65 "cats.jsonl:1: " "--n K" -- "$data" rank --gold cats.jsonl
expect 0 "5 raters; two of them order two answers alike in 0." -- "$data" rank --gold --raters "$root/configs/demo/raters.jsonl" \
    --out rated.jsonl samples.jsonl
[ "$(grep -o '"rater":"[a-z]*"' rated.jsonl | sort -u | wc -l)" = 5 ] || fail "not five raters: $(cat rated.jsonl)"
must "$data" rank --gold --raters "$root/configs/demo/raters.jsonl" --rater eli --out eli.jsonl samples.jsonl
[ "$(grep -c '"rater":"eli"' eli.jsonl)" = 40 ] || fail "not eli: $(cat eli.jsonl)"
expect 65 'no rater "zoe"' -- "$data" rank --gold --raters "$root/configs/demo/raters.jsonl" --rater zoe samples.jsonl
expect 64 "--noise and --grain" -- "$data" rank --gold --raters "$root/configs/demo/raters.jsonl" --noise 1 samples.jsonl
expect 64 "--rater ann needs --raters" -- "$data" rank --gold --rater ann samples.jsonl
expect 0 "| ideal | 2.000 ± 0.000 |" "best that reads no facts" -- "$data" policies world/eval_prompts.jsonl

# its documentation is what the programs say
must "$data" synth --out eval --documents 0 --documents-heldout 0 --sft 0 --sft-heldout 0 --compare 0 --compare-heldout 0 \
    --ppo 0 --eval 1200
{ "$data" examples && "$data" policies eval/eval_prompts.jsonl; } >world.md
while IFS= read -r line; do
    grep -qxF -- "$line" "$root/docs/WORLD.md" || fail "docs/WORLD.md does not have (make docs): $line"
done <world.md

# --- the command line ------------------------------------------------------------------------------------
expect 0 "tokenizer" "inspect" "synth" -- "$data" --help
for command in tokenizer encode decode inspect split synth examples rank score policies; do
    expect 0 "Usage: rhetor-data $command" -- "$data" $command --help
done
expect 64 'no command "tokenise"' "tokenizer" -- "$data" tokenise
expect 64 "--vocab N is needed" -- "$data" tokenizer --out t.json cats.jsonl
expect 64 "no file given" -- "$data" tokenizer --vocab 300 --out t.json
expect 64 '--heldout is "2"' -- "$data" encode --heldout 2 cats.jsonl
expect 64 "rank by what? One of --gold" -- "$data" rank cats.jsonl
expect 64 '--fields is "a=b"' -- "$data" inspect --fields a=b cats.jsonl
"$data" inspect --samples 0 a.h5 >/dev/full 2>full.err && fail "a full disk went unnoticed"
grep -q 'standard output' full.err || fail "a full disk: $(cat full.err)"
echo "rhetor-data does what it says"
