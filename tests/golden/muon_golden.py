"""Makes tests/golden/muon.json: weights and momenta after Muon steps, by NumPy in double.

Jordan et al. 2024 with the scale of Liu et al. 2025: wide, tall and square matrices, and a parameter
of three matrices one above another; learning rate and gradient scale change from step to step. The
Newton-Schulz iteration is done twice: as products of matrices, and on the singular values of an SVD,
which must agree. All inputs are exact in float32.

Remake:  pip install numpy; python3 tests/golden/muon_golden.py > tests/golden/muon.json
"""
import json
import numpy as np

rng = np.random.default_rng(20241208)
MOMENTUM, DECAY = 0.95, 0.1
A, B, C = 3.4445, -4.7750, 2.0315
shapes = {"wide": (6, 17), "tall": (19, 5), "square": (8, 8), "three": (12, 7)}
pieces = {"wide": 1, "tall": 1, "square": 1, "three": 3}


def float32_values(shape, scale):
    return (rng.standard_normal(shape) * scale).astype(np.float32).astype(np.float64)


def by_products(g):
    x = g / max(np.linalg.norm(g), 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def by_singular_values(g):
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    s = s / np.sqrt((s * s).sum())
    for _ in range(5):
        s = A * s + B * s**3 + C * s**5
    return u @ (s[:, None] * vt)


w = {k: float32_values(s, 0.5) for k, s in shapes.items()}
m = {k: np.zeros(s) for k, s in shapes.items()}
start, steps = {k: v.copy() for k, v in w.items()}, []
for t in range(4):
    lr, scale = 1e-2 / (1 + t), 1.0 if t % 3 else 0.25
    grads = {k: float32_values(s, 10.0 ** (t % 4 - 2)) for k, s in shapes.items()}
    for k in shapes:
        g = grads[k] * scale
        m[k] = MOMENTUM * m[k] + (1 - MOMENTUM) * g
        u = (1 - MOMENTUM) * g + MOMENTUM * m[k]
        for rows, update in zip(np.split(w[k], pieces[k]), np.split(u, pieces[k])):
            o = by_products(update)
            assert np.abs(o - by_singular_values(update)).max() < 1e-12
            rows -= lr * (0.2 * np.sqrt(max(o.shape)) * o + DECAY * rows)
    steps.append({"lr": lr, "scale": scale,
                  "grad": {k: g.flatten().tolist() for k, g in grads.items()},
                  "w": {k: v.flatten().tolist() for k, v in w.items()},
                  "m": {k: v.flatten().tolist() for k, v in m.items()}})

print(json.dumps({"made_with": "NumPy " + np.__version__, "momentum": MOMENTUM, "decay": DECAY,
                  "shapes": shapes, "pieces": pieces,
                  "start": {k: v.flatten().tolist() for k, v in start.items()},
                  "steps": steps}, indent=None, separators=(",", ":")).replace('{"lr"', '\n{"lr"'))
