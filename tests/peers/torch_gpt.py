"""GPT-2 in PyTorch, as a good engineer would write it for speed on CPUs: fused attention, tied head,
keys and values in preallocated tensors. The sizes are those of tools/bench/bench_cases.c."""
import json
import resource
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    layers: int
    heads: int
    width: int
    vocab: int
    context: int


SMALL = Config(6, 6, 384, 4096, 256)
GPT2 = Config(12, 12, 768, 50257, 1024)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.qkv, self.proj = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.fc, self.fc2 = nn.Linear(c.width, 4 * c.width), nn.Linear(4 * c.width, c.width)

    def forward(self, x, cache=None, pos=0):
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0][:, :, pos:pos + T] = k
            cache[1][:, :, pos:pos + T] = v
        if pos:  # one new token sees all
            y = F.scaled_dot_product_attention(q, cache[0][:, :, :pos + T], cache[1][:, :, :pos + T])
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.fc2(F.gelu(self.fc(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """head: a scalar a token instead of the vocabulary (value and reward models)."""

    def __init__(self, c, head=False):
        super().__init__()
        self.c = c
        self.wte, self.wpe = nn.Embedding(c.vocab, c.width), nn.Embedding(c.context, c.width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, 1) if head else None
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def hidden(self, tokens, caches=None, pos=0):
        x = self.wte(tokens) + self.wpe.weight[pos:pos + tokens.shape[1]]
        for i, b in enumerate(self.blocks):
            x = b(x, caches[i] if caches else None, pos)
        return self.norm(x)

    def logits(self, h):
        return F.linear(h, self.wte.weight)

    def values(self, h):
        return self.head(h).squeeze(-1)

    def caches(self, batch, length):
        shape = (batch, self.c.heads, length, self.c.width // self.c.heads)
        return [(torch.empty(shape), torch.empty(shape)) for _ in self.blocks]


def adamw(model, lr, decay):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0}],
                             lr=lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def sgemm_rate():
    """GFLOP/s of PyTorch's own 2048^3 product, best of 5."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) * 1e-9)
    return best


def take_turns(run):
    """run() does one round and returns {part: (seconds, tokens)}. Warm first; then a round for every line
    read, and a line of JSON for every round. The other side is rhetor-bench --turns."""
    start = time.perf_counter()
    run()
    if time.perf_counter() - start < 1:
        run()
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "sgemm": sgemm_rate()}),
          flush=True)
    for _ in sys.stdin:
        parts = [{"name": k, "seconds": s, "tokens": n} for k, (s, n) in run().items()]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"parts": parts, "peak_bytes": peak}), flush=True)
