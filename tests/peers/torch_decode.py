"""Sampling with a KV cache. usage: torch_decode.py prefill|1|8|32 eager|compile
Decoding is timed from the moment all sequences have their first token, as rhetor-bench does."""
import sys
import time

import torch

from torch_gpt import GPT, GPT2, take_turns

what, mode = sys.argv[1], sys.argv[2]
B, T, NEW = (4, 512, 1) if what == "prefill" else (int(what), 16, 64)
torch.manual_seed(1)
model = GPT(GPT2).eval()
prompts = torch.randint(GPT2.vocab, (B, T))


def next_token(h):
    """Temperature 1; and the token's log-probability, which both sides return."""
    logp = torch.log_softmax(model.logits(h[:, -1]), -1)
    token = torch.multinomial(logp.exp(), 1)
    return token, logp.gather(1, token)


def forward(tokens, caches, pos):
    return next_token(model.hidden(tokens, caches, pos))


if mode == "compile":
    forward = torch.compile(forward, dynamic=True)


@torch.inference_mode()
def run():
    caches = model.caches(B, T + NEW)
    start = time.perf_counter()
    token, logp = forward(prompts, caches, 0)
    first = time.perf_counter()
    if what == "prefill":
        return {"": (first - start, B * T)}
    out = [(token, logp)]
    for i in range(NEW - 1):
        out.append(forward(out[-1][0], caches, T + i))
    return {"": (time.perf_counter() - first, B * (NEW - 1))}


take_turns(run)
