"""Makes tests/golden/hf: small GPT-2 models with random weights as transformers saves them, and the
log-probabilities that transformers gives, in double, for tests/train/test_hf.c.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers
    /tmp/venv/bin/python tests/golden/hf_golden.py
"""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPT2Model

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hf")
shutil.rmtree(here, ignore_errors=True)
SHAPE = dict(vocab_size=40, n_positions=12, n_embd=8, n_layer=2, n_head=2)
TOKENS = [7, 0, 39, 12, 12, 31, 5, 22, 1, 18, 30, 3]


def drop_biases(folder):
    path = os.path.join(folder, "model.safetensors")
    save_file({k: v for k, v in load_file(path).items() if not k.endswith(".bias")}, path,
              metadata={"format": "pt"})


MODELS = {
    "tied": (GPT2LMHeadModel, {}, torch.float32, {}, None),
    "untied_gelu_bf16": (GPT2LMHeadModel, {"tie_word_embeddings": False, "activation_function": "gelu"},
                         torch.bfloat16, {}, None),
    "sharded_fp16": (GPT2LMHeadModel, {}, torch.float16, {"max_shard_size": "2KB"}, None),
    "bare_no_bias": (GPT2Model, {"activation_function": "gelu_pytorch_tanh"}, torch.float32, {}, drop_biases),
}
expected = {"tokens": TOKENS}
for seed, (name, (kind, more, dtype, save, after)) in enumerate(MODELS.items()):
    g = torch.Generator().manual_seed(seed)
    model = kind(GPT2Config(**SHAPE, **more))
    with torch.no_grad():
        for p_name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3 + ("ln_" in p_name and p_name.endswith("weight")))
    folder = os.path.join(here, name)
    model.to(dtype).save_pretrained(folder, **save)
    if after:
        after(folder)
    for f in os.listdir(folder):
        if f not in ("config.json", "model.safetensors.index.json") and not f.endswith(".safetensors"):
            os.remove(os.path.join(folder, f))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        logp = model(torch.tensor([TOKENS])).logits[0].log_softmax(-1)
    expected[name] = logp[torch.arange(len(TOKENS) - 1), torch.tensor(TOKENS[1:])].tolist()
with open(os.path.join(here, "expected.json"), "w") as f:
    json.dump(expected, f, indent=1)
    f.write("\n")
