#!/bin/bash
# rhetor-eval pick: its scores are those of rhetor-generate and rhetor-eval reward, its choice is
# its rule's, and the folder that it writes is a run folder that holds the choice alone.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
export RUN=$PWD/run SEED=1
pick() { "$bin/rhetor-eval" pick -m run/sft --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 24 --temperature 0.5 "$@"; }

# Long enough that most answers end; three epochs, and other checkpoints between them.
must "$bin/rhetor-pipeline" "$tiny" --run run --until pretrain
must "$bin/rhetor-data" synth --out run/data --documents 1 --documents-heldout 1 --sft 600 --sft-heldout 150 --compare 40 \
    --compare-heldout 1 --ppo 1 --eval 1
# fifty that leave room for 32 tokens
grep -v '^{"prompt":\[' run/data/sft_heldout.jsonl | grep -E '^\{"prompt":"[^"]{1,90}"' | head -50 >short.jsonl
[ "$(wc -l <short.jsonl)" = 50 ] || fail "only $(wc -l <short.jsonl) short prompts"
mv short.jsonl run/data/sft_heldout.jsonl
must "$bin/rhetor-sft" "$tiny/sft.yaml" train.steps=0 train.epochs=3 train.batch=8 optim.lr=3e-3 save.every=50
must "$bin/rhetor-pipeline" "$tiny" --run run --only sample
must "$bin/rhetor-pipeline" "$tiny" --run run --only rank
must "$bin/rhetor-reward" "$tiny/reward.yaml"
must pick --out run/picked
cp must.out first.out
steps=$(sed -nE 's/^step ([0-9]+) .*/\1/p' first.out)
[ "$(wc -w <<<"$steps")" = 3 ] || fail "three epochs, but: $(cat first.out)"
[ "$(ls run/sft/checkpoints/step_*.h5 | wc -l)" = 4 ] || fail "expected a checkpoint that is no epoch's"

# --- the scores, by hand: an answer that ended is the same text to a reader, and mostly the same tokens
# scores STEP: those of picked.json
scores() { awk -v want="$1" '/"scores": \[/ {n = 0; on = 1; next} /\]/ {on = 0} on {gsub(/[ ,]/, ""); v[n++] = $0}
    $1 == "\"step\":" && $2 + 0 == want {for (i = 0; i < n; i++) print v[i]}' run/picked/picked.json; }
for step in $steps; do
    file=$(printf 'run/sft/checkpoints/step_%08d.h5' "$step")
    must "$bin/rhetor-generate" -m "$file" --in run/data/sft_heldout.jsonl --max-new 24 -t 0.5 --out samples.jsonl
    sed -E 's/"completion":/"was":/; s/"completions":\[(.*)\],"stopped":\[.*\]\}$/"completion":\1}/' samples.jsonl >answers.jsonl
    "$bin/rhetor-eval" reward -m run/reward answers.jsonl | tr -dc '0-9.e\n-' | sed 's/^[^0-9-]*//' >hand
    scores "$step" >ours
    [ "$(wc -l <ours) $(wc -l <hand)" = "50 50" ] || fail "scores of step $step"
    ended=$(awk -v s="$step" '$1 == "step" && $2 == s {print $(NF - 2)}' first.out)
    paste ours hand | awk -v ended="$ended" '($1 - $2) ^ 2 < 1e-8 {n++} END {exit !(ended > 0.5 && n >= 0.75 * ended * NR)}' ||
        fail "step $step, $ended of them ended: $(paste ours hand)"
    awk -v s="$step" 'FNR == NR {m += $1 / 50; next} $1 == "step" && $2 == s {exit !(($3 - m) ^ 2 < 1e-6)}' ours first.out ||
        fail "the mean of step $step: $(cat first.out)"
    cp ours "ours.$step"
done

# --- the choice, by the rule
want=$(paste $(printf 'ours.%s ' $steps) | awk -v steps="$(echo $steps)" '
    {for (i = 1; i <= NF; i++) {m[i] += $i / 50; x[NR, i] = $i}}
    END {n = split(steps, step, " "); best = 1
        for (i = 2; i <= n; i++) if (m[i] >= m[best]) best = i
        for (i = n; i > best; i--) {v = 0
            for (k = 1; k <= NR; k++) v += (x[k, best] - x[k, i] - m[best] + m[i]) ^ 2
            if (m[best] - m[i] <= sqrt(v / 49 / 50)) break}
        print step[i]}')
grep -q "^picked: step $want," first.out || fail "expected step $want: $(cat first.out)"

# --- the folder
chosen=$(printf 'step_%08d' "$want")
[ "$(ls run/picked/checkpoints | tr '\n' ' ')" = "$chosen.h5 $chosen.json " ] || fail "$(ls run/picked/checkpoints)"
identical run/picked "run/sft/checkpoints/$chosen.h5"
must pick --out run/picked
cmp must.out first.out || fail "made again it differs"
must "$bin/rhetor-eval" pick -m run/picked --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 24 --out run/picked
grep -q "^picked: step $want, the only one" must.out || fail "$(cat must.out)"
identical run/picked "run/sft/checkpoints/$chosen.h5"
# another choice takes the place of the first
first=$(printf 'step_%08d' $(echo $steps | cut -d' ' -f1))
mkdir -p early/checkpoints
cp run/sft/checkpoints/"$first".* early/checkpoints
must "$bin/rhetor-eval" pick -m early --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 24 --out run/picked
[ "$(ls run/picked/checkpoints | tr '\n' ' ')" = "$first.h5 $first.json " ] || fail "$(ls run/picked/checkpoints)"
[ -f "run/sft/checkpoints/$chosen.h5" ] || fail "the run lost its checkpoint"

# --- nothing to go by
expect 0 "no answer of any checkpoint ended: the choice says nothing" -- "$bin/rhetor-eval" pick -m run/sft \
    --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 1 --max-records 4

# --- answers longer than the context holds: as long as it does
expect 0 "at most 32 tokens, half of the model's context, not 1000" "picked:" -- "$bin/rhetor-eval" pick -m run/sft \
    --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 1000 --max-records 2

# --- wrong input
expect 78 "run/pretrain: is a run folder, its checkpoints would be replaced" -- "$bin/rhetor-eval" pick -m run/sft \
    --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 4 --max-records 2 --out run/pretrain
[ -f run/pretrain/checkpoints/step_00000040.h5 ] || fail "run/pretrain lost its checkpoint"
expect 65 "run/data: holds no checkpoint" -- "$bin/rhetor-eval" pick -m run/data --reward run/reward --prompts run/data/sft_heldout.jsonl
expect 65 "expected two or more" -- "$bin/rhetor-eval" pick -m run/sft --reward run/reward --prompts run/data/sft_heldout.jsonl --max-new 4 --max-records 1
expect 64 "--reward PATH" -- "$bin/rhetor-eval" pick -m run/sft --prompts run/data/sft_heldout.jsonl
expect 78 "a reward model is needed here" -- "$bin/rhetor-eval" pick -m run/sft --reward run/sft --prompts run/data/sft_heldout.jsonl
exit 0
