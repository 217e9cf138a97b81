#!/usr/bin/env python3
"""Makes tests/golden/families/: tiny random models of every family as Hugging Face's transformers
saves them, with odd sizes, and what transformers computes of them: the log-probability of every next
token, the gradients, three steps of AdamW. Run with transformers 5: tests/golden/families_golden.py"""

import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import (GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM,
                          LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families")
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=24, rope_theta=500.0)


def sizes(vocab=61, width=24, layers=2, heads=6, ffn=40, context=64, **more):
    return dict(vocab_size=vocab, hidden_size=width, num_hidden_layers=layers,
                num_attention_heads=heads, intermediate_size=ffn, max_position_embeddings=context,
                bos_token_id=None, eos_token_id=3, pad_token_id=None, **more)


def old_rope(config):
    """As versions before 5 wrote it."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    del config["head_dim"]
    return config


def old_neox(config):
    rope = config.pop("rope_parameters")
    config["rotary_emb_base"], config["rotary_pct"] = rope["rope_theta"], rope["partial_rotary_factor"]
    return config


MODELS = {
    # grouped heads, a head not width / heads, scaled RoPE past its original context
    "llama3": dict(model=LlamaForCausalLM(LlamaConfig(**sizes(
        num_key_value_heads=2, head_dim=8, rope_parameters=LLAMA3, tie_word_embeddings=True,
        rms_norm_eps=1e-5))), gradients=True),
    # one head of keys, fp16, shards, an older configuration with its names of RoPE
    "llama_old": dict(model=LlamaForCausalLM(LlamaConfig(**sizes(
        heads=4, num_key_value_heads=1, rope_parameters=dict(LLAMA3, rope_theta=1e4)))),
        dtype=torch.float16, shards="12KB", config=old_rope),
    # the trunk alone, saved as LlamaModel, tied; bf16
    "llama_bare": dict(model=LlamaForCausalLM(LlamaConfig(**sizes(
        heads=3, num_key_value_heads=3, tie_word_embeddings=True))), dtype=torch.bfloat16, bare=True),
    # bf16, both names of the tied matrix, a sliding window that is off, a padded vocabulary
    "qwen2": dict(model=Qwen2ForCausalLM(Qwen2Config(**sizes(
        vocab=64, heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)))), dtype=torch.bfloat16,
        both=True, config=lambda c: dict(c, sliding_window=32)),
    "qwen3": dict(model=Qwen3ForCausalLM(Qwen3Config(**sizes(
        heads=3, num_key_value_heads=1, head_dim=10, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)))), gradients=True),
    "qwen3_untied": dict(model=Qwen3ForCausalLM(Qwen3Config(**sizes(
        heads=4, num_key_value_heads=4, head_dim=4))), dtype=torch.bfloat16),
    # a quarter of a head turns, parallel branches
    "neox": dict(model=GPTNeoXForCausalLM(GPTNeoXConfig(**sizes(
        width=32, heads=2, ffn=52))), gradients=True),
    # one after the other, tanh, half a head, tied, the buffers that older versions saved
    "neox_serial": dict(model=GPTNeoXForCausalLM(GPTNeoXConfig(**sizes(
        heads=3, hidden_act="gelu_new", use_parallel_residual=False, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5)))),
        dtype=torch.bfloat16, config=old_neox, buffers=True),
    "opt": dict(model=OPTForCausalLM(OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=36,
        max_position_embeddings=64, dropout=0.0, eos_token_id=3)), gradients=True),
    "gpt2_inner": dict(model=GPT2LMHeadModel(GPT2Config(
        vocab_size=61, n_embd=24, n_layer=2, n_head=3, n_positions=64, n_inner=28, resid_pdrop=0,
        embd_pdrop=0, attn_pdrop=0, eos_token_id=3)), dtype=torch.bfloat16),
}


def fill(model):
    """Weights with consequences: random gains and biases too."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = p.ndim == 1 and name.endswith("weight")
            p.copy_(torch.randn_like(p) * 0.25 + (1 if gain else 0))


def make(name, model, dtype=None, shards=None, config=None, bare=False, both=False, buffers=False,
         gradients=False):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.eval()
    fill(model)
    tokens = torch.randint(4, 60, (1, model.config.max_position_embeddings))
    saved = model.to(dtype) if dtype else model
    (saved.base_model if bare else saved).save_pretrained(folder, max_shard_size=shards or "1GB")
    os.remove(os.path.join(folder, "generation_config.json")) if not bare else None
    if both or buffers:
        path = os.path.join(folder, "model.safetensors")
        tensors = load_file(path)
        if both:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        if buffers:
            for i in range(2):
                at = f"gpt_neox.layers.{i}.attention."
                tensors[at + "bias"] = torch.ones(1, 1, 64, 64).tril().bool()
                tensors[at + "masked_bias"] = torch.tensor(-1e9)
                tensors[at + "rotary_emb.inv_freq"] = torch.ones(2)
        save_file(tensors, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    written = json.load(open(path))
    if config:
        written = config(written)
    json.dump(written, open(path, "w"), indent=1)

    # what was saved, as transformers reads it, in fp32
    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    targets = tokens[0, 1:]
    logp = model(tokens).logits[0, :-1].log_softmax(-1)[torch.arange(len(targets)), targets]
    out = {"tokens": tokens[0].tolist(), "logp": [float(x) for x in logp]}
    if gradients:
        loss = -logp.mean()
        loss.backward()
        # transformers 5 calls GPT-NeoX's output lm_head, its files embed_out
        neox = model.config.model_type == "gpt_neox"
        named = {n.replace("lm_head", "embed_out") if neox else n: p
                 for n, p in model.named_parameters()}
        save_file({n: p.grad.clone() for n, p in named.items()},
                  os.path.join(HERE, name + "_grad.safetensors"))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8,
                                      weight_decay=0)
        out["losses"] = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = -model(tokens).logits[0, :-1].log_softmax(-1)[torch.arange(len(targets)), targets].mean()
            out["losses"].append(float(loss.detach()))
            loss.backward()
            optimizer.step()
    json.dump(out, open(os.path.join(HERE, name + ".json"), "w"))


torch.manual_seed(1)
os.makedirs(HERE, exist_ok=True)
for name, what in MODELS.items():
    make(name, **what)
