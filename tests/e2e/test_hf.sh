#!/bin/bash
# test_hf.sh: a model that transformers saved (tests/golden/hf: exact GELU, an lm_head of its own) goes
# through SFT, reward model and PPO, and out again.
# asan: yes
. "$(dirname "$0")/lib.sh"
ckpt=$bin/rhetor-ckpt
cp -r "$root/tests/golden/hf/untied_gelu_bf16" theirs
{ # GPT-2's first format: letters, a space, a line break, end of text
    printf '{'
    id=0
    for c in a b c d e f g h i j k l m n o p q r s t u v w x y z Ġ Ċ; do printf '"%s": %d, ' "$c" $((id++)); done
    printf '"<|endoftext|>": %d}\n' "$id"
} >theirs/vocab.json
echo '#version: 0.2' >theirs/merges.txt
expect 0 "11 of the model's 40 rows of the vocabulary (from 29) have no token" "never sampled" -- "$ckpt" import theirs model.h5
expect 0 "import, step 0" "exact GELU, untied" "params: 29 with" -- "$ckpt" show model.h5
expect 0 "good: import" -- "$ckpt" verify model.h5
expect 64 "model.h5" "is there already" -- "$ckpt" import theirs model.h5
expect 64 "expected DIR|FILE.gguf OUT.h5" -- "$ckpt" import theirs
expect 64 "--format is \"onnx\"; expected hf, gguf or peft" -- "$ckpt" export --format onnx model.h5 out

for p in ab cd ef gh ij kl mn op; do
    echo "{\"prompt\": \"$p\", \"completion\": \"a b\"}" >>demos.jsonl
    echo "{\"prompt\": \"$p\", \"completions\": [\"ab\", \"cd\", \"e\"], \"ranks\": [1, 2, 2]}" >>ranked.jsonl
done
small="data.heldout= data.mix= train.batch=4 optim.lr=1e-3 data.on_long=stop"
must "$bin/rhetor-sft" "$tiny/sft.yaml" run.dir=sft from.model=model.h5 data.train=demos.jsonl data.mix_ratio=0 $small train.steps=4
must "$bin/rhetor-reward" "$tiny/reward.yaml" run.dir=reward from.model=sft data.train=ranked.jsonl data.heldout= train.batch=4 train.steps=3
must "$bin/rhetor-ppo" "$tiny/ppo.yaml" run.dir=ppo from.model=sft from.reward=reward data.train=demos.jsonl \
    data.mix= ptx.coef=0 ppo.episodes=16 ppo.batch=8 ppo.minibatches=2 ppo.max_response=4
expect 1 "params/lm_head.weight: " -- "$ckpt" diff --only params model.h5 sft
expect 1 "params/lm_head.weight: " -- "$ckpt" diff --only params sft ppo
must "$bin/rhetor-generate" -m ppo --max-new 4 "ab"

# 11 of 40 rows are never sampled, and still the sampler's log-probabilities are the training forward's.
awk -F'"rollout/decode_gap_max": *' 'NF > 1 { n++; if ($2 + 0 > 1e-4) bad = 1 } END { exit bad || !n }' ppo/metrics.jsonl ||
    fail "the sampler's log-probabilities are not the model's: $(cat ppo/metrics.jsonl)"

# Without a tokenizer: what needs none.
cp -r "$root/tests/golden/hf/tied" bare
expect 0 "rhetor-eval logprobs" -- "$ckpt" import bare bare.h5
echo '{"tokens": [7, 0, 39, 12]}' >tokens.jsonl
expect 0 '{"tokens":[7,0,39,12],"logprobs":[-' -- "$bin/rhetor-eval" logprobs -m bare.h5 tokens.jsonl
echo '{"text": "ab"}' >text.jsonl
expect 65 "bare.h5 was imported without a tokenizer" '{"tokens": [...]}' -- "$bin/rhetor-eval" logprobs -m bare.h5 text.jsonl
expect 78 "is a reward model" -- "$bin/rhetor-eval" logprobs -m reward tokens.jsonl
expect 0 "no tokenizer" -- "$ckpt" show bare.h5
printf 'GGUF\3\0\0\0' >some.gguf
expect 65 "some.gguf: 8 bytes: not a GGUF file, or truncated" -- "$ckpt" import some.gguf no.h5
expect 65 "README.md: not a GGUF file" "or a folder as Hugging Face has it" -- "$ckpt" import "$root/README.md" no.h5

must "$ckpt" export sft out
must "$ckpt" import out back.h5
identical_params() { expect 0 "all 29 arrays are bit-identical" -- "$ckpt" diff --only params "$1" "$2"; }
identical_params sft back.h5
expect 1 " arrays differ, all in name or shape" -- "$ckpt" diff sft back.h5
must "$ckpt" export --format hf reward reward_out
grep -q '"GPT2ForSequenceClassification"' reward_out/config.json || fail "the reward model is no classifier"
expect 65 "expected a language model" -- "$ckpt" import reward_out no.h5
head -c 3000 theirs/model.safetensors >out/model.safetensors
expect 65 "out/model.safetensors" "truncated" -- "$ckpt" import out no.h5
[ ! -e no.h5 ] && [ ! -e no.json ] || fail "a failed import left a checkpoint"
exit 0
