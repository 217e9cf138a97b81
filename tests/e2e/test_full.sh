#!/bin/bash
# What cannot be written ends with 74 and one line that says so: every program and every command with
# its output on a full device, and files on one.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
must "$bin/rhetor-pipeline" "$tiny" --run "$RUN" --until reward
tokenizer=$RUN/tokenizer.json prompts=$RUN/data/eval_prompts.jsonl
few=(--max-records 2 --max-new 2)
must "$bin/rhetor-generate" -m "$RUN/sft" --in "$prompts" --out a.jsonl "${few[@]}" -n 2
head -n 2 "$prompts" >two.jsonl
echo '{"text":"Ben likes soup."}' >text.jsonl
echo '{"ids":[66,101]}' >ids.jsonl
echo '{"prompt":"Who?","completion":"Ben."}' >answer.jsonl
head -n 2 "$RUN/ranked.jsonl" >ranked.jsonl
ckpt=$(ls "$RUN"/sft/checkpoints/*.h5 | tail -n 1)
[ -w /dev/full ] || exit 77

# full TEXT... -- COMMAND...: leaves with 74 and says each TEXT
full() { expect 74 "$@"; }
tried=0
# mute PROGRAM ARGUMENT...: its standard output is a full device
mute() {
    local status=0
    tried=$((tried + 1))
    "$bin/$1" "${@:2}" >/dev/full 2>mute.err || status=$?
    [ $status = 74 ] || fail "$* left with $status on a full device and said: $(cat mute.err)"
    [ "$(grep -cE "^$1[ a-z]*: .*(standard output|No space left)" mute.err)" = 1 ] || fail "$* on a full device said: $(cat mute.err)"
}

for program in "$bin"/rhetor*; do
    program=$(basename "$program")
    mute "$program" --help
    mute "$program" --version
done
mute rhetor --settings
for stage in pretrain sft dpo reward ppo grpo; do mute "rhetor-$stage" "$tiny/$stage.yaml" --print-config; done
mute rhetor-sft "$tiny/sft.yaml" --dry-run
mute rhetor-ppo --selftest

for command in tokenizer encode decode inspect split synth rank score; do mute rhetor-data "$command" --help; done
mute rhetor-data encode --ids -t "$tokenizer" text.jsonl
mute rhetor-data encode --count -t "$tokenizer" text.jsonl
mute rhetor-data decode -t "$tokenizer" ids.jsonl
mute rhetor-data inspect "$RUN/heldout.h5"
mute rhetor-data inspect -t "$tokenizer" ranked.jsonl
mute rhetor-data rank --gold a.jsonl
mute rhetor-data score --gold a.jsonl

for command in loss logprobs reward rank win compare pick; do mute rhetor-eval "$command" --help; done
mute rhetor-eval loss -m "$RUN/sft" text.jsonl
mute rhetor-eval logprobs -m "$RUN/sft" text.jsonl
mute rhetor-eval reward -m "$RUN/reward" answer.jsonl
mute rhetor-eval rank -m "$RUN/reward" ranked.jsonl
mute rhetor-eval win --gold a.jsonl a.jsonl
mute rhetor-eval compare -m "sft=$RUN/sft" --prompts two.jsonl "${few[@]}" --reward "$RUN/reward"
mute rhetor-eval pick -m "$RUN/sft" --prompts two.jsonl "${few[@]}" --reward "$RUN/reward"

mute rhetor-generate -m "$RUN/sft" "Who?" --max-new 2
mute rhetor-generate -m "$RUN/sft" --in two.jsonl --max-new 2
mute rhetor-generate -m "$RUN/sft" --chat --max-new 2 <<<"Who?"

for command in show verify diff import export; do mute rhetor-ckpt "$command" --help; done
mute rhetor-ckpt show "$ckpt"
mute rhetor-ckpt verify "$ckpt"
mute rhetor-ckpt diff "$ckpt" "$ckpt"
mute rhetor-ckpt diff "$ckpt" "$RUN/pretrain"
mute rhetor-ckpt export "$ckpt" hf
mute rhetor-ckpt import hf imported.h5

mute rhetor-pipeline "$tiny" --run "$RUN" --status
mute rhetor-pipeline "$tiny" --run "$RUN" --until reward --dry-run
mute rhetor-pipeline "$tiny" --run "$RUN" --until reward
mute rhetor-submit "$tiny" --run "$RUN" --dry-run --scheduler slurm
mute rhetor-submit --settings
mute rhetor-plan "$tiny/sft.yaml" --seconds 0.1
mute rhetor-bench --list
mute rhetor-bench checkpoint --help
mute rhetor-bench comm --help

# A reader that goes away is no fault of ours.
"$bin/rhetor" --settings | head -n 1 >head.out
status=${PIPESTATUS[0]}
[ "$status" = 141 ] || [ "$status" = 0 ] || fail "a pipe without a reader: $status"

# Files; those that are replaced as a whole name what could not be written.
full "/dev/full" "No space left" -- "$bin/rhetor-generate" -m "$RUN/sft" --in two.jsonl --max-new 2 --out /dev/full
full "/dev/full" "No space left" -- "$bin/rhetor-data" decode -t "$tokenizer" -o /dev/full ids.jsonl
full "/dev/full" "No space left" -- "$bin/rhetor-data" rank --gold -o /dev/full a.jsonl
full "/dev/full" "No space left" -- "$bin/rhetor-data" tokenizer --vocab 300 -o /dev/full text.jsonl
full "/dev/full" "No space left" -- "$bin/rhetor-data" split --heldout 0.5 --train /dev/full --heldout-out h.jsonl "$RUN/ranked.jsonl"
full "/dev/full" "No space left" -- "$bin/rhetor-plan" "$tiny/sft.yaml" --seconds 0.1 --save-rates /dev/full
full "/dev/full" "No space left" -- "$bin/rhetor-eval" compare -m "sft=$RUN/sft" --prompts two.jsonl "${few[@]}" \
    --reward "$RUN/reward" --json /dev/full
[ -c /dev/full ] || fail "/dev/full is no device any more"
echo "$tried commands"
