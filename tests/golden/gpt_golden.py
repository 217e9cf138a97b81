"""Makes tests/golden/gpt.safetensors: a tiny GPT written in plain PyTorch, in double precision, on a
packed batch: logits, losses, values and gradients for tests/exchange/test_golden.c.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch numpy
    /tmp/venv/bin/python tests/golden/gpt_golden.py

Parameters are float32 numbers, so float and double builds start from the same ones; gradients are
rounded to float32 to keep the file small. The model without biases has the same matrices.
"""
import json
import math
import os
import struct

import torch

V, T, L, H, C = 23, 12, 2, 2, 16
LENGTHS = [5, 12, 1, 3]
g = torch.Generator().manual_seed(20240607)


def randn(*shape, std=1.0, mean=0.0):
    x = torch.randn(*shape, generator=g, dtype=torch.float64) * std + mean
    return x.to(torch.float32).to(torch.float64)


def make_params():
    p = {"wte.weight": randn(V, C, std=0.3), "wpe.weight": randn(T, C, std=0.2)}
    for l in range(L):
        h = f"h.{l}."
        for name, rows, cols in [("attn.qkv", 3 * C, C), ("attn.proj", C, C), ("mlp.fc", 4 * C, C),
                                 ("mlp.proj", C, 4 * C)]:
            p[h + name + ".weight"] = randn(rows, cols, std=0.3)
            p[h + name + ".bias"] = randn(rows, std=0.1)
        for name in ("norm1", "norm2"):
            p[h + name + ".weight"] = randn(C, std=0.2, mean=1)
            p[h + name + ".bias"] = randn(C, std=0.1)
    p["norm_f.weight"] = randn(C, std=0.2, mean=1)
    p["norm_f.bias"] = randn(C, std=0.1)
    p["head.weight"] = randn(1, C, std=0.3)
    p["head.bias"] = randn(1, std=0.3)
    return p


def norm(x, p, name, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(var + eps) * p[name + ".weight"]
    return y + p[name + ".bias"] if name + ".bias" in p else y


def linear(x, p, name):
    y = x @ p[name + ".weight"].T
    return y + p[name + ".bias"] if name + ".bias" in p else y


def gelu(x, erf):
    if erf:
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def forward_one(p, tokens, erf):
    n = len(tokens)
    x = p["wte.weight"][tokens] + p["wpe.weight"][:n]
    for l in range(L):
        h = f"h.{l}."
        q, k, v = linear(norm(x, p, h + "norm1"), p, h + "attn.qkv").split(C, dim=-1)
        heads = []
        for i in range(H):
            c = slice(i * C // H, (i + 1) * C // H)
            s = q[:, c] @ k[:, c].T / math.sqrt(C // H)
            s = s.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
            heads.append(torch.softmax(s, -1) @ v[:, c])
        x = x + linear(torch.cat(heads, -1), p, h + "attn.proj")
        x = x + linear(gelu(linear(norm(x, p, h + "norm2"), p, h + "mlp.fc"), erf), p, h + "mlp.proj")
    return norm(x, p, "norm_f")


def forward(p, tokens, erf=False):
    return torch.cat([forward_one(p, s, erf) for s in tokens.split(LENGTHS)])


def leaves(p, keep):
    return {k: v.clone().requires_grad_() for k, v in p.items() if keep(k)}


out = {}
params = make_params()
n = sum(LENGTHS)
tokens = torch.randint(V, (n,), generator=g)
targets = torch.randint(V, (n,), generator=g)
weight = (torch.rand(n, generator=g) * (torch.rand(n, generator=g) < 0.7)).to(torch.float32)
out["tokens"] = tokens.to(torch.int32)
out["targets"] = targets.to(torch.int32)
out["weight"] = weight
out["lengths"] = torch.tensor(LENGTHS, dtype=torch.int32)
for k, v in params.items():
    out["param." + k] = v.to(torch.float32)

for case, bias in (("bias", True), ("nobias", False)):
    p = leaves(params, lambda k: not k.startswith("head.") and (bias or not k.endswith(".bias")))
    logits = forward(p, tokens) @ p["wte.weight"].T
    logp = torch.log_softmax(logits, -1)
    loss = -(weight.double() * logp[torch.arange(n), targets]).sum()
    loss.backward()
    out[case + ".logits"] = logits.detach()
    out[case + ".entropy"] = -(logp.exp() * logp).sum(-1).detach()
    out[case + ".loss"] = loss.detach().reshape(1)
    for k, v in p.items():
        if bias or not k.startswith("h.1."):  # enough, and half the file
            out[f"{case}.grad.{k}"] = v.grad.to(torch.float32)

p = leaves(params, lambda k: not k.startswith("head."))
out["erf.logits"] = (forward(p, tokens, erf=True) @ p["wte.weight"].T).detach()

# A reward model: values at chosen rows, loss = sum of coefficient * value.
p = leaves(params, lambda k: True)
rows = torch.tensor([4, 16, 17, 20, 9])
coefficient = torch.tensor([1.0, -0.5, 0.25, 2.0, -1.5], dtype=torch.float64)
values = (forward(p, tokens) @ p["head.weight"].T)[:, 0] + p["head.bias"]
(values[rows] * coefficient).sum().backward()
out["values"] = values.detach()
out["value_rows"] = rows.to(torch.int32)
out["value_coefficient"] = coefficient
for k in ("head.weight", "head.bias", "wpe.weight", "h.0.attn.qkv.bias", "norm_f.weight"):
    out["value.grad." + k] = p[k].grad.to(torch.float32)

NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}
header, blob = {}, b""
for k, v in out.items():
    data = v.contiguous().numpy().tobytes()
    header[k] = {"dtype": NAMES[v.dtype], "shape": list(v.shape),
                 "data_offsets": [len(blob), len(blob) + len(data)]}
    blob += data
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpt.safetensors")
with open(path, "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + blob)
print(path, os.path.getsize(path), "bytes")
