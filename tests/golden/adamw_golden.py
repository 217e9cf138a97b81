"""Makes tests/golden/adamw.json: parameters and moments after AdamW steps, by PyTorch in double.

A matrix with weight decay and a vector without; the learning rate and the gradient scale change
from step to step; one element never has a gradient. All inputs are exact in float32.

Remake:  pip install torch==2.*; python3 tests/golden/adamw_golden.py > tests/golden/adamw.json
"""
import json
import torch

torch.manual_seed(20240601)
BETA1, BETA2, EPS, DECAY = 0.9, 0.95, 1e-8, 0.1
shapes = {"matrix": (3, 5), "vector": (7,)}


def float32_values(shape, scale):
    return (torch.randn(shape, dtype=torch.float32) * scale).double()


start = {k: float32_values(s, 0.5) for k, s in shapes.items()}
params = {k: torch.nn.Parameter(v.clone()) for k, v in start.items()}
optimizer = torch.optim.AdamW(
    [{"params": [params["matrix"]], "weight_decay": DECAY},
     {"params": [params["vector"]], "weight_decay": 0.0}],
    lr=1e-3, betas=(BETA1, BETA2), eps=EPS)

steps = []
for t in range(12):
    lr, scale = 1e-2 / (1 + t), 1.0 if t % 3 else 0.25
    grads = {k: float32_values(s, 10.0 ** (t % 4 - 2)) for k, s in shapes.items()}
    grads["vector"][3] = 0
    for group in optimizer.param_groups:
        group["lr"] = lr
    for k, p in params.items():
        p.grad = grads[k] * scale
    optimizer.step()
    steps.append({
        "lr": lr, "scale": scale,
        "grad": {k: g.flatten().tolist() for k, g in grads.items()},
        "w": {k: p.detach().flatten().tolist() for k, p in params.items()},
        "m": {k: optimizer.state[p]["exp_avg"].flatten().tolist() for k, p in params.items()},
        "v": {k: optimizer.state[p]["exp_avg_sq"].flatten().tolist() for k, p in params.items()},
    })

print(json.dumps({"made_with": "PyTorch " + torch.__version__.split("+")[0], "beta1": BETA1,
                  "beta2": BETA2, "eps": EPS, "decay": DECAY,
                  "start": {k: v.flatten().tolist() for k, v in start.items()},
                  "steps": steps}, indent=None, separators=(",", ":")).replace('{"lr"', '\n{"lr"'))
