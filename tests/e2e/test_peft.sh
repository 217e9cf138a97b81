#!/bin/bash
# Adapters of Hugging Face's Peft: imported they give the log-probabilities of transformers with Peft
# (tests/golden/peft), exported and imported again the same bits; ours go out and come back; what is not
# plain LoRA, of another model, or damaged is refused.
. "$(dirname "$0")/lib.sh"
golden=$root/tests/golden

# close FILE FILE: their log-probabilities
close() {
    paste <(grep -o '"logp[a-z]*": *\[[^]]*' "$1" | sed 's/.*\[//' | tr ',' '\n') \
        <(grep -o '"logp[a-z]*": *\[[^]]*' "$2" | sed 's/.*\[//' | tr ',' '\n') | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; if (NF != 2) bad = 1 }
        END { print worst " " NR; exit bad || NR < 30 || worst > 2e-5 }' >off.txt ||
        fail "$1 and $2 differ by $(cat off.txt)"
}
for family in llama3 qwen2 qwen3 neox opt gpt2_inner; do
    adapters=$golden/peft/$family
    must "$bin/rhetor-ckpt" import "$golden/families/$family" $family.h5
    must "$bin/rhetor-ckpt" import "$adapters" $family-lora.h5 --base $family.h5
    "$bin/rhetor-eval" logprobs --model $family-lora.h5 "$adapters.json" >$family.out || fail "$family: logprobs"
    "$bin/rhetor-eval" logprobs --model $family.h5 "$adapters.json" >$family-base.out
    close "$adapters.json" $family.out
    ! (close "$adapters.json" $family-base.out) >/dev/null || fail "$family: the adapters do nothing"
    must "$bin/rhetor-ckpt" export $family-lora.h5 $family-peft --format peft
    must "$bin/rhetor-ckpt" import $family-peft $family-again.h5 --base $family.h5
    expect 0 "are bit-identical" -- "$bin/rhetor-ckpt" diff $family-lora.h5 $family-again.h5
    must "$bin/rhetor-ckpt" merge $family-lora.h5 $family-merged.h5
    "$bin/rhetor-eval" logprobs --model $family-merged.h5 "$adapters.json" >merged.out
    cmp $family.out merged.out || fail "$family: merged"
done
# q, k and v with an A each: three times the rank; a matrix of all three, or one of them: as it is.
for rank in "llama3 9" "qwen2 6" "neox 4" "gpt2_inner 3"; do
    "$bin/rhetor-ckpt" show "${rank% *}-lora.h5" --arrays >arrays
    grep -q "params/h.0.attn.qkv.lora_a f32 \[${rank#* }," arrays || fail "rank of $rank: $(cat arrays)"
done

import=("$bin/rhetor-ckpt" import)
expect 64 "--base PATH says of which model" -- "${import[@]}" "$golden/peft/opt" no.h5
expect 64 "which $golden/families/opt is not" -- "${import[@]}" "$golden/families/opt" no.h5 --base opt.h5
expect 65 "is of no matrix of llama3.h5" -- "${import[@]}" "$golden/peft/opt" no.h5 --base llama3.h5
expect 65 "has the shape" -- "${import[@]}" "$golden/peft/llama3" no.h5 --base qwen2.h5
expect 64 "holds adapters itself" -- "${import[@]}" "$golden/peft/opt" no.h5 --base opt-lora.h5
expect 64 "holds no adapters" -- "$bin/rhetor-ckpt" export opt.h5 no --format peft
expect 64 "is there" -- "$bin/rhetor-ckpt" export opt-lora.h5 opt-peft --format peft
cp -r "$golden/peft/opt" bad
for change in 's/"use_dora": false/"use_dora": true/ use_dora' 's/"bias": "none"/"bias": "all"/ bias' \
    's/"modules_to_save": null/"modules_to_save": ["lm_head"]/ modules_to_save' 's/"r": 2/"r": 3/ shape' \
    's/"r": 2/"r": -1/ "r"' 's/"LORA"/"IA3"/ IA3' 's/"lora_alpha": 3/"lora_alpha": "3"/ lora_alpha' 's/{// adapter_config'; do
    sed "${change% *}" "$golden/peft/opt/adapter_config.json" >bad/adapter_config.json
    expect 65 "${change##* }" -- "${import[@]}" bad no.h5 --base opt.h5
done
cp "$golden/peft/opt/adapter_config.json" bad
head -c 900 "$golden/peft/opt/adapter_model.safetensors" >bad/adapter_model.safetensors
expect 65 "adapter_model.safetensors" -- "${import[@]}" bad no.h5 --base opt.h5
rm bad/adapter_model.safetensors
expect 74 "adapter_model.safetensors" -- "${import[@]}" bad no.h5 --base opt.h5
[ ! -e no.h5 ] && [ ! -e no ] || fail "something was written"
