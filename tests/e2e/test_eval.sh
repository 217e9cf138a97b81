#!/bin/bash
# rhetor-eval and rhetor-generate: numbers that must agree with each other, and what wrong input says.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
must "$bin/rhetor-pipeline" "$tiny" --run "$RUN" --until reward

# The loss of a text is the mean of its log-probabilities, the end-of-text token's after it included.
printf 'Ben likes soup. Fay lives in Rome.' >text.txt
printf '{"text":"Ben likes soup. Fay lives in Rome."}\n' >text.jsonl
ids=$("$bin/rhetor-data" encode --ids --tokenizer "$RUN/tokenizer.json" text.jsonl | grep -o '\[.*\]')
printf '{"tokens":%s,0]}\n' "${ids%]}" >tokens.jsonl
mean=$("$bin/rhetor-eval" logprobs -m "$RUN/sft" tokens.jsonl | sed 's/.*"logprobs":\[//; s/\].*//' | tr ',' '\n' | awk '{s -= $1} END {printf "%.5f", s / NR}')
loss=$("$bin/rhetor-eval" loss -m "$RUN/sft" text.txt | sed 's/.*"nats_per_token": //; s/,.*//')
awk -v a="$mean" -v b="$loss" 'BEGIN {exit !(a > 0 && (a - b) ^ 2 < 1e-9)}' || fail "logprobs give $mean nats a token, loss says $loss"

# A corpus and what it was made of have the same loss, to the last digit.
documents=$RUN/data/documents_heldout.jsonl
sed 's/{"text"/{"id":1,"text"/' "$documents" | gzip >documents.jsonl.gz
sed 's/^{"text": *"//; s/"}$//' "$documents" >whole.txt
must "$bin/rhetor-data" encode --tokenizer "$RUN/tokenizer.json" --out whole.h5 whole.txt
"$bin/rhetor-eval" loss -m "$RUN/sft" "$RUN/heldout.h5" "$documents" documents.jsonl.gz whole.h5 whole.txt >losses
"$bin/rhetor-eval" loss -m "$RUN/sft" --max-records 7 "$RUN/heldout.h5" "$documents" documents.jsonl.gz >>losses
[ "$(cut -d, -f2- losses | uniq -c | awk '{printf "%s ", $1}')" = "3 2 3 " ] || fail "text and corpus differ: $(cat losses)"
echo '{"txt":"x"}' >bad.jsonl
expect 65 "bad.jsonl:1" '"text"' -- "$bin/rhetor-eval" loss -m "$RUN/sft" bad.jsonl
: >empty.txt
expect 65 "empty.txt: no document" -- "$bin/rhetor-eval" loss -m "$RUN/sft" empty.txt

# Text and its ids give the same log-probabilities; short lines give none.
printf '{"tokens":%s}\n' "$ids" >same.jsonl
cmp <("$bin/rhetor-eval" logprobs -m "$RUN/sft" text.jsonl) <("$bin/rhetor-eval" logprobs -m "$RUN/sft" same.jsonl) || fail "text and ids differ"
[ "$(echo '{"text":""}' | "$bin/rhetor-eval" logprobs -m "$RUN/sft")" = '{"tokens":[],"logprobs":[]}' ] || fail "empty text"
echo '{"tokens":[1,9999]}' >bad.jsonl
expect 65 "bad.jsonl:1" "0..511" -- "$bin/rhetor-eval" logprobs -m "$RUN/sft" bad.jsonl
expect 78 "reward model is needed" -- "$bin/rhetor-eval" reward -m "$RUN/sft" text.jsonl

# Bytes of a sample that are no UTF-8 become U+FFFD each, and its other characters stay.
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --out wild.jsonl --raw -t 100 --max-new 40
LC_ALL=C grep -aP '\xEF\xBF\xBD' wild.jsonl | LC_ALL=C grep -aqP '[\xC2-\xDF][\x80-\xBF]' || fail "no character survived: $(cat wild.jsonl)"

# A file that cannot be written is found out before the sampling; a full disk leaves the old one.
generate=("$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --max-new 16)
expect 74 "nowhere/a.jsonl: cannot be written" -- "${generate[@]}" --out nowhere/a.jsonl
! grep -q "tokens/s" expect.out || fail "sampled first: $(cat expect.out)"
echo old >full.jsonl
(trap '' XFSZ && ulimit -f 4 && expect 74 "full.jsonl: write: " -- "${generate[@]}" --out full.jsonl) || exit 1
[ "$(cat full.jsonl)" = old ] || fail "the disk was full and the old file is gone"
[ ! -e full.jsonl.tmp ] || fail "full.jsonl.tmp is left behind"
"${generate[@]}" --out /dev/stdout 2>/dev/null | cmp - <("${generate[@]}" 2>/dev/null) || fail "/dev/stdout"

# A model against itself: half of the prompts; the same seed gives the same samples.
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --out a.jsonl --max-new 16
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --out b.jsonl --max-new 16
cmp a.jsonl b.jsonl || fail "the same seed gave other samples"
for judge in --gold "--reward run/reward"; do
    expect 0 '"win_rate": 0.5,' '"difference": 0.0,' -- "$bin/rhetor-eval" win $judge a.jsonl b.jsonl
done
# An answer that was cut off has the same score wherever models are compared; the reward model
# itself is measured on it as it is.
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --out cut.jsonl --max-new 1
grep -q '"stopped":\[false\]' cut.jsonl || fail "all answers of one token are finished: $(cat cut.jsonl)"
grep '"stopped":\[false\]' cut.jsonl >unfinished.jsonl
sed 's/,"stopped":\[false\]//' unfinished.jsonl >unmarked.jsonl
sed 's/\[false\]/[true]/' unfinished.jsonl >finished.jsonl
expect 0 '"win_rate": 0.0,' -- "$bin/rhetor-eval" win --reward "$RUN/reward" --no-stop-score -1e6 unfinished.jsonl unmarked.jsonl
expect 0 '"win_rate": 0.5,' -- "$bin/rhetor-eval" win --reward "$RUN/reward" finished.jsonl unmarked.jsonl
one() { sed 's/"completions":\["\(.*\)"\],"stopped":\[\(.*\)\]}/"completion":"\1","stopped":\2}/' "$1"; }
one unfinished.jsonl >one_unfinished.jsonl
one finished.jsonl >one_finished.jsonl
! cmp -s <("$bin/rhetor-eval" reward -m "$RUN/reward" one_unfinished.jsonl) \
    <("$bin/rhetor-eval" reward -m "$RUN/reward" one_finished.jsonl) || fail "the end of an answer makes no difference"
must "$bin/rhetor-eval" compare --model sft="$RUN/sft" --reward "$RUN/reward" --no-stop-score -7 --best-of 4 \
    --prompts unfinished.jsonl --max-new 1 --json cut.json
awk '/"reward":/ {exit !($2 + 0 < -3)}' cut.json ||
    fail "cut answers are not scored as PPO does: $(cat cut.json)"

# Only answers to the same prompts can be compared; nothing has no mean.
sed '1{h;d};$G' a.jsonl >moved.jsonl
head -n 1 a.jsonl >one.jsonl
for judge in --gold "--reward run/reward"; do
    expect 65 "record 1 of a.jsonl answers \"" "same prompts" -- "$bin/rhetor-eval" win $judge a.jsonl moved.jsonl
    expect 65 "empty.txt" "no " -- "$bin/rhetor-eval" win $judge empty.txt empty.txt
    expect 0 '"difference_se": null' -- "$bin/rhetor-eval" win $judge one.jsonl one.jsonl
done
sed 's/{/{"by":"b",/' b.jsonl >other.jsonl # other fields may differ
expect 0 '"win_rate": 0.5,' -- "$bin/rhetor-eval" win --gold a.jsonl other.jsonl
echo '{"prompt":"Who?","completions":["Ben.","Ana."],"ranks":[1,1]}' >ties.jsonl
expect 65 "ties.jsonl: no two answers of any of its 1 ranking differ" -- "$bin/rhetor-eval" rank -m "$RUN/reward" ties.jsonl
cp text.txt 'a "b".txt'
expect 0 '{"file": "a \"b\".txt", "tokens": ' -- "$bin/rhetor-eval" loss -m "$RUN/sft" 'a "b".txt'
expect 0 '"accuracy"' "calibration" -- "$bin/rhetor-eval" rank -m "$RUN/reward" "$RUN/ranked.jsonl"
expect 70 "at least 1.1" -- "$bin/rhetor-eval" rank -m "$RUN/reward" --expect-accuracy 1.1 "$RUN/ranked.jsonl"

# A model that PPO trained to stop at another token stops there; SFT's goes on.
must "$bin/rhetor-ppo" "$tiny/ppo.yaml" run.dir="$RUN/ppo-stop" from.model="$RUN/sft" ppo.stop=. ppo.episodes=64
must "$bin/rhetor-generate" -m "$RUN/ppo-stop" --in "$RUN/data/eval_prompts.jsonl" --out stop.jsonl --max-new 16
further='"completions":\["[^"]*\. ' # (.\" is another token)
grep -q "$further" a.jsonl || fail "no sample of SFT goes on after a full stop: $(cat a.jsonl)"
! grep "$further" stop.jsonl || fail "a sample goes on after the stop token"
grep -q '"completions":\["[^"]*\."' stop.jsonl || fail "no sample stops: $(cat stop.jsonl)"

# The table: the base has KL 0 to itself and no difference.
must "$bin/rhetor-eval" compare --model base="$RUN/pretrain" --model sft="$RUN/sft" --reward "$RUN/reward" --best-of 4 \
    --prompts "$RUN/data/eval_prompts.jsonl" --heldout "$RUN/heldout.h5" --max-new 16 --json table.json
grep -A12 '"model": "sft"' table.json | grep -q '"diff": 0.0' || grep -B12 '"model": "sft"' table.json | grep -q '"diff": 0.0' || fail "sft differs from itself: $(cat table.json)"
# Best of n: of one is the mean of all samples, of four is the row of the table.
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$RUN/data/eval_prompts.jsonl" --out four.jsonl -n 4 --max-new 16
must "$bin/rhetor-data" score --gold four.jsonl
mean=$(awk '$1 == "all" {print $7}' must.out)
best() { tr -d ' \n' <table.json | tr '{}' '\n\n' | grep "\"$1\":$2\b" | grep -o "\"$3\":[-0-9.e]*" | cut -d: -f2; }
awk -v a="$mean" -v b="$(best n 1 gold)" 'BEGIN {exit !((a - b) ^ 2 < 1e-6)}' || fail "mean $mean, best of 1: $(cat table.json)"
for value in gold reward kl; do
    [ -n "$(best n 4 $value)" ] && [ "$(best n 4 $value)" = "$(best model '"bestof4' $value)" ] || fail "$value of the best of 4: $(cat table.json)"
done
expect 70 "does NOT hold" -- "$bin/rhetor-eval" compare --model base="$RUN/pretrain" --model sft="$RUN/sft" --max-new 16 \
    --prompts "$RUN/data/eval_prompts.jsonl" --expect "base>sft"
# A model without the template, a policy, groups, shares of acts; each condition can fail and can hold.
table=("$bin/rhetor-eval" compare --model base="$RUN/pretrain" --model sft="$RUN/sft" --raw base --max-new 16
    --policy "blind=best that reads no facts" --policy "nothing=nothing" --policy "refuse=refuse everything"
    --prompts "$RUN/data/eval_prompts.jsonl")
must "${table[@]}" --reward "$RUN/reward" --best-of 2 --json table.json --expect "blind>nothing by 3 se" \
    --expect "over-refused: sft<refuse by 0 se" --expect "blind>refuse on answerable by 0 se"
grep -q 'blind>refuse on answerable by 0 se: blind minus refuse .*: holds' must.out || fail "$(cat must.out)"
for key in kernel reward_accuracy reward_above_abstaining groups; do grep -q "\"$key\":" table.json || fail "no $key: $(cat table.json)"; done
grep -Eq '^base +-[0-9.]+ .* - +- +[0-9.]+$' must.out || fail "a KL of a model without the template: $(cat must.out)"
must "$bin/rhetor-eval" seeds table.json table.json
grep -q '^| mean, 95 % over seeds | .*\[.*\] |' must.out && grep -q '^| table.json | [01]\.' must.out || fail "seeds: $(cat must.out)"
echo '{}' >none.json
expect 65 'none.json: no "groups"' -- "$bin/rhetor-eval" seeds table.json none.json
expect 70 "nothing>blind does not hold" -- "${table[@]}" --expect "nothing>blind"
expect 70 "does not hold" -- "${table[@]}" --expect "over-refused: refuse<sft+0.5 by 0 se"
expect 70 "on family/cat does not hold" -- "${table[@]}" --expect "blind>nothing on family/cat"
expect 64 "no measure" -- "${table[@]}" --expect "wisdom: blind>sft"
expect 64 "no number" -- "${table[@]}" --expect "blind>sft by many se"
expect 64 "--policy x=wisdom: there is none of this name" -- "${table[@]}" --policy x=wisdom
# What cannot be is said at once, not after the sampling.
compare=("$bin/rhetor-eval" compare --model base="$RUN/pretrain" --model sft="$RUN/sft" --prompts "$RUN/data/eval_prompts.jsonl")
expect 64 "--max-new 1000: expected 1 to 63" -- "${compare[@]}" --max-new 1000
expect 64 '--expect sft>bsae: "bsae" is none of the models' -- "${compare[@]}" --expect "sft>bsae"
expect 64 "two or more names" -- "${compare[@]}" --expect sft
expect 64 "--best-of 4 needs --reward" -- "${compare[@]}" --best-of 4
! grep -q "held-out prompts" expect.out || fail "a table: $(cat expect.out)"
# Forty steps teach nothing: near the best constant everywhere. Two looks see the same.
probe=("$bin/rhetor-eval" probe -m "$RUN/pretrain" --probes 48)
expect 70 "does not hold: look-up is 0." -- "${probe[@]}" --json probe.json --expect 0.9
awk '/"accuracy"/ {n++; bad += $2 + 0 > 0.35} END {exit n != 5 || bad}' probe.json || fail "it reads: $(cat probe.json)"
expect 0 "best constant" -- "${probe[@]}" --json again.json
cmp probe.json again.json || fail "another look, another result"
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=run/short model.context=32 train.steps=1
expect 78 "probe has" "context is 32" -- "$bin/rhetor-eval" probe -m run/short
expect 78 "is a reward model" -- "$bin/rhetor-eval" probe -m "$RUN/reward"
echo hi | timeout 120 "$bin/rhetor-generate" -m "$RUN/sft" --chat --max-new 8 >chat.out 2>&1 || fail "chat: $(cat chat.out)"
exit 0
