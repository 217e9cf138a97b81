"""A training step. usage: torch_step.py small|124m|124m-t64 eager|compile"""
import sys
import time

import torch
import torch.nn.functional as F

from torch_gpt import GPT, GPT2, SMALL, adamw, take_turns

CASES = {"small": (SMALL, 16, 256), "124m": (GPT2, 4, 1024), "124m-t64": (GPT2, 4, 64)}

case, mode = sys.argv[1], sys.argv[2]
config, B, T = CASES[case]
torch.manual_seed(1)
model = GPT(config)
optimizer = adamw(model, 1e-4, 0.1)
tokens = torch.randint(config.vocab, (B, T))
targets = torch.randint(config.vocab, (B, T))


def loss_of(tokens, targets):
    return F.cross_entropy(model.logits(model.hidden(tokens)).view(-1, config.vocab), targets.view(-1))


if mode == "compile":
    loss_of = torch.compile(loss_of)


def step():
    start = time.perf_counter()
    loss_of(tokens, targets).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"": (time.perf_counter() - start, B * T)}


take_turns(step)
