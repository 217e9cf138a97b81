"""Makes tests/golden/ops.json: outputs and gradients of activations and of the ops of Llama's
block, by PyTorch in double, on packed sequences of 1, 0, 7 and 2 tokens. The formulas are those of
transformers' modelling files. All inputs are multiples of 1/64.

Remake:  pip install torch==2.*; python3 tests/golden/ops_golden.py > tests/golden/ops.json
"""
import json
import math
import torch

torch.manual_seed(20261130)
STARTS = [0, 1, 1, 8, 10]
N = STARTS[-1]
POSITION = torch.tensor([i for a, b in zip(STARTS, STARTS[1:]) for i in range(b - a)])
cases = []


def random(*shape):
    return (torch.randn(*shape, dtype=torch.float64) * 64).round().div(64).requires_grad_()


def flat(x):
    return [float(f"{v:.13g}") for v in x.detach().flatten().tolist()]


def case(op, inputs, f, **args):
    """dy is random too; what is recorded: inputs, y, dy, and the gradient of each input."""
    y = f(*inputs)
    dy = random(*y.shape).detach()
    y.backward(dy)
    cases.append({"op": op, **args,
                  "in": [{"shape": list(x.shape), "data": flat(x), "grad": flat(x.grad)}
                         for x in inputs],
                  "y": flat(y), "dy": flat(dy)})


def rmsnorm(x, w, eps):
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def swiglu(x):
    gate, up = x.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def frequencies(columns, theta, scaling):
    f = theta ** -(torch.arange(0, columns, 2, dtype=torch.float64) / columns)
    if not scaling:
        return f
    factor, low, high, old = scaling
    wave = 2 * math.pi / f
    smooth = (old / wave - low) / (high - low)
    mixed = (1 - smooth) * f / factor + smooth * f
    scaled = torch.where(wave > old / low, f / factor, f)
    medium = ~(wave < old / high) & ~(wave > old / low)
    return torch.where(medium, mixed, scaled)


def rope(x, heads, d, fraction, theta, scaling):
    columns = int(d * fraction)
    angle = POSITION[:, None] * frequencies(columns, theta, scaling)
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
    h = x[:, :heads * d].view(N, heads, d)
    turned, rest = h[..., :columns], h[..., columns:]
    a, b = turned.chunk(2, dim=-1)
    turned = turned * cos[:, None] + torch.cat([-b, a], -1) * sin[:, None]
    return torch.cat([torch.cat([turned, rest], -1).view(N, heads * d), x[:, heads * d:]], -1)


def attention(x, heads, kv, d):
    q = x[:, :heads * d].view(N, heads, d)
    k = x[:, heads * d:(heads + kv) * d].view(N, kv, d).repeat_interleave(heads // kv, 1)
    v = x[:, (heads + kv) * d:].view(N, kv, d).repeat_interleave(heads // kv, 1)
    out = []
    for a, b in zip(STARTS, STARTS[1:]):
        if a < b:
            y = torch.nn.functional.scaled_dot_product_attention(
                q[a:b].transpose(0, 1), k[a:b].transpose(0, 1), v[a:b].transpose(0, 1),
                is_causal=True)
            out.append(y.transpose(0, 1).reshape(b - a, heads * d))
    return torch.cat(out)


def headnorm(x, wq, wk, heads, kv, eps):
    d = wq.shape[0]
    q = rmsnorm(x[:, :heads * d].view(N, heads, d), wq, eps).view(N, heads * d)
    k = rmsnorm(x[:, heads * d:(heads + kv) * d].view(N, kv, d), wk, eps).view(N, kv * d)
    return torch.cat([q, k, x[:, (heads + kv) * d:]], -1)


for eps in 1e-5, 1e-2:
    case("rmsnorm", [random(N, 19), random(19)], lambda x, w: rmsnorm(x, w, eps), eps=eps)
case("swiglu", [random(N, 2 * 21)], swiglu)
for heads, d, fraction, theta, scaling in (
        (3, 8, 1, 1e4, None), (2, 16, 0.25, 1e4, None), (2, 16, 1, 5e5, (32, 1, 4, 64))):
    args = dict(heads=heads, d=d, fraction=fraction, theta=theta)
    if scaling:
        args.update(zip(("factor", "low", "high", "original"), scaling))
    case("rope", [random(N, heads * d + 5)],
         lambda x: rope(x, heads, d, fraction, theta, scaling), **args)
for heads, kv, d in (4, 2, 6), (3, 1, 20), (2, 2, 5):
    case("attention", [random(N, (heads + 2 * kv) * d)],
         lambda x: attention(x, heads, kv, d), heads=heads, kv=kv)
for act, f in (("gelu_tanh", lambda z: torch.nn.functional.gelu(z, approximate="tanh")),
               ("gelu_erf", torch.nn.functional.gelu), ("relu", torch.relu)):
    case("linear", [random(5, 7), random(11, 7), random(11)],
         lambda x, w, b: f(torch.nn.functional.linear(x, w, b)), act=act)
case("headnorm", [random(N, (4 + 2 * 2) * 6), random(6), random(6)],
     lambda x, wq, wk: headnorm(x, wq, wk, 4, 2, 1e-6), heads=4, kv=2, eps=1e-6)

# The frequencies' tables far out, where scaling shows: cos and sin of some positions.
tables = []
for d, fraction, theta, scaling in ((64, 1, 5e5, (32, 1, 4, 8192)), (64, 0.25, 1e4, None),
                                    (64, 1, 1e5, None)):
    f = frequencies(int(d * fraction), theta, scaling)
    t = {"d": d, "fraction": fraction, "theta": theta, "positions": [1, 9999]}
    if scaling:
        t.update(zip(("factor", "low", "high", "original"), scaling))
    t["cos"] = [flat((p * f).cos()) for p in t["positions"]]
    t["sin"] = [flat((p * f).sin()) for p in t["positions"]]
    tables.append(t)

print(json.dumps({"made_with": "PyTorch " + torch.__version__.split("+")[0], "start": STARTS,
                  "cases": cases, "tables": tables}, separators=(",", ":"))
      .replace('{"op"', '\n{"op"'))
