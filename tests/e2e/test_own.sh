#!/bin/bash
# A recipe for one's own data (configs/own, rhetor-size): what a folder holds is found, sized, trained
# and talked to; it goes on with the sizes that it has; what is missing or too little is said.
. "$(dirname "$0")/lib.sh"
pipeline=$bin/rhetor-pipeline
unset DATA MINUTES

# --- a folder: texts, some in a compressed file of records, demonstrations, rankings, and other things
must "$bin/rhetor-data" synth --out synth --documents 500 --sft 300
mkdir -p "data/my texts" data/.hidden
cp synth/documents.jsonl "data/my texts/records.jsonl" && gzip "data/my texts/records.jsonl"
sed -E 's/.*"text": *"([^"]*)".*/\1/' synth/documents_heldout.jsonl | head -n 150 >"data/my texts/it's \$text.txt"
cp synth/sft.jsonl data/demos.jsonl
cp synth/sft.jsonl data/.hidden/
for i in $(seq 220); do echo "{\"prompt\": \"say $i\", \"chosen\": \"it is $i\", \"rejected\": \"no\"}"; done >data/ranked.jsonl
echo '{"prompt": "broken", "chosen": 1}' >>data/ranked.jsonl
printf 'x\0y\xff' >data/picture.png
printf '{"a": 1}\n' >data/settings.json

# said before: the whole pipeline where there is time; nothing is written
expect 0 "demonstrations 300 in 1 file" "rankings       220 in 1 file" "prompts        none" \
    "left out: $PWD/data/picture.png: neither text" "left out: $PWD/data/settings.json: no record of it is known" \
    "300 demonstrations: SFT will learn their form, not their content" "1 of 221 rankings are malformed" \
    "million parameters" "  ppo  " "in all" "PPO takes the prompts of the demonstrations" "kB of text are about" -- \
    "$pipeline" own --data data --minutes 600 --dry-run
[ ! -e runs ] || fail "--dry-run wrote into runs/"

# as long as it may take here; then it goes on with what it chose, whatever is in the folder now
expect 0 "for 0.2 minutes" "steps done" 'talk to it: rhetor-generate -m "run/' -- "$pipeline" own --data data --minutes 0.2 --run run
model=$(sed -n 's/^talk to it: rhetor-generate -m "\(.*\)" --chat/\1/p' expect.out)
echo "say 3" >question
must "$bin/rhetor-generate" -m "$model" --chat <question
before=$(cat run/recipe/* | cksum)
expect 0 "the sizes are those of run/recipe" ", 0 of them now" "talk to it" -- "$pipeline" own --data data --run run
[ "$(cat run/recipe/* | cksum)" = "$before" ] || fail "the sizes were chosen again"
expect 0 "run/recipe in run" -- "$pipeline" own --run run --status
! grep -qE 'outdated|waiting' expect.out || fail "--status: $(cat expect.out)"
expect 78 "run was started with --minutes 0.2, not 5" -- "$pipeline" own --run run --minutes 5
expect 78 "run was started with --data data, not synth" -- "$pipeline" own --run run --data synth
expect 0 "pretrain:" -- "$bin/rhetor-pipeline" run/recipe --run run --dry-run # an ordinary recipe

# interrupted: the same command goes on
expect 75 "stopped and saved" -- "$pipeline" own --data data --minutes 0.2 --run stopped pretrain:run.deadline=0.001
expect 0 "pretrain: going on" "talk to it" -- "$pipeline" own --data data --run stopped

# --- text alone, and little of it
mkdir -p alone
head -c 20000 "data/my texts/it's \$text.txt" >alone/a.txt
expect 0 "20 kB of text are about" "letters and frequent words, no sentences" "left out: sft, reward, ppo: there are no demonstrations" \
    'talk to it: rhetor-generate -m "only/pretrain" --chat' -- "$pipeline" own --data alone --minutes 0.1 --run only

# --- nothing to begin with
mkdir -p empty little
printf 'a few words\n' >little/a.txt
expect 65 "rhetor-size: empty: no text to pretrain on" "no recipe was made (65)" -- "$pipeline" own --data empty --run none
expect 65 "expected at least 4000" -- "$pipeline" own --data little --run none
expect 78 "nowhere: no such folder" -- "$pipeline" own --data nowhere --run none
expect 78 "which data? --data DIR" -- "$pipeline" own --run none
expect 78 "its recipe is made from the data when it is run" -- "$pipeline" own --run none --status
expect 78 "its recipe is made from the data when it is run" -- "$bin/rhetor-plan" own
expect 64 '--minutes is "0"' -- "$pipeline" own --data data --minutes 0
[ ! -e none/recipe ] || fail "a recipe was written: $(ls none/recipe)"
exit 0
