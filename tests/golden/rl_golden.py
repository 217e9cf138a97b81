"""Makes tests/golden/rl_golden.json: the algorithms of rlhf/ in PyTorch, in double, by autograd.

ranking    K-way losses and gradients: ties, large differences
math       GAE, policy and value losses, whitening, KL control
iteration  a whole PPO update of a small GPT: episodes, old and reference log-probabilities, values,
           scores, rewards, advantages, then inner epochs of policy, pretraining and value losses with
           clipping and AdamW, and the moving average. Sequences go forward one by one, unpacked.

Weights and tokens come from the formula `noise`, which tests/rlhf/test_iteration.c repeats; so does
the order of minibatches and pretraining windows (data/order.c, data/corpus.c), written here anew.

Remake:  pip install torch==2.*; python3 tests/golden/rl_golden.py > tests/golden/rl_golden.json
"""
import json
import math

import torch

torch.manual_seed(20240607)
torch.set_default_dtype(torch.float64)
F = torch.nn.functional
MASK = (1 << 64) - 1


def mix(x):  # splitmix64
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def noise(seed, i):  # in [-0.5, 0.5)
    return (mix((seed << 32) + i) >> 40) / (1 << 24) - 0.5


def float32(x):
    return torch.as_tensor(x, dtype=torch.float32).double()


# --- ranking --------------------------------------------------------------------------------------


def ranking_case(rewards, ranks):
    r = float32(rewards).requires_grad_()
    terms = [-F.logsigmoid(r[i] - r[j]) for i in range(len(ranks)) for j in range(len(ranks))
             if ranks[i] < ranks[j]]
    loss = torch.stack(terms).mean() if terms else 0 * r.sum()
    loss.backward()
    return {"r": r.tolist(), "rank": ranks, "pairs": len(terms), "loss": loss.item(),
            "grad": r.grad.tolist()}


ranking = [ranking_case(torch.randn(len(k)) * s, k) for k, s in [
    ([1, 2], 1), ([2, 1], 1), ([1, 1], 1), ([1, 2, 3, 4], 1), ([2, 1, 2, 1], 2), ([3, 1, 3, 2, 1, 3], 1),
    ([4, 2, 7, 1, 6, 3, 5], 3), ([1, 1, 1, 2, 2, 2, 3, 3, 3], 1), ([9, 8, 7, 6, 5, 4, 3, 2, 1], 5),
    ([5, 5, 5, 5], 1)]]
ranking += [ranking_case(*c) for c in [
    ([90.0, -90.0, 0.0], [1, 2, 3]), ([-90.0, 90.0, 0.0], [1, 2, 2]), ([1e4, -1e4], [2, 1]),
    ([1e4, -1e4], [1, 2]), ([0.0, 0.0, 0.0], [1, 2, 3]), ([1e-7, 0.0], [1, 2])]]

# --- math -----------------------------------------------------------------------------------------


def gae_case(n, gamma, lam):
    r, v = float32(torch.randn(n)), float32(torch.randn(n))
    next_v = torch.cat([v[1:], torch.zeros(1)])
    delta = r + gamma * next_v - v
    weight = torch.tensor([[(gamma * lam) ** (k - t) if k >= t else 0.0 for k in range(n)]
                           for t in range(n)])
    a = weight @ delta
    return {"reward": r.tolist(), "value": v.tolist(), "gamma": gamma, "lambda": lam,
            "advantage": a.tolist(), "ret": (a + v).tolist()}


def policy_case(logp, old, a, e):
    x = torch.tensor(logp, requires_grad=True)
    ratio = (x - old).exp()
    free, held = -a * ratio, -a * ratio.clamp(1 - e, 1 + e)
    loss = torch.max(free, held)
    loss.backward()
    return {"logp": logp, "old": old, "a": a, "clip": e, "loss": loss.item(),
            "grad": x.grad.item(), "clipped": (held > free).item()}


def value_case(v, old, ret, e):
    x = torch.tensor(v, requires_grad=True)
    held = x.clamp(old - e, old + e) if e > 0 else x
    loss = 0.5 * torch.max((x - ret) ** 2, (held - ret) ** 2)
    loss.backward()
    return {"v": v, "old": old, "ret": ret, "clip": e, "loss": loss.item(), "grad": x.grad.item(),
            "clipped": ((held - ret) ** 2 > (x - ret) ** 2).item()}


def whiten_case(x):
    x = float32(x)
    return {"x": x.tolist(),
            "y": ((x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-8)).tolist()}


def control_case(beta, target, horizon, steps):
    out, start = [], beta
    for kl, n in steps:
        error = torch.tensor(kl / target - 1).clamp(-0.2, 0.2).item()
        beta *= 1 + error * n / horizon
        out.append(beta)
    return {"beta": start, "target": target, "horizon": horizon, "steps": steps, "betas": out}


number = lambda scale: float(torch.randn(()) * scale)
math_part = {
    "gae": [gae_case(n, g, l) for n, g, l in [(1, 1.0, 0.95), (2, 1.0, 0.95), (17, 1.0, 0.95),
                                              (9, 0.97, 0.9), (8, 1.0, 1.0), (8, 0.9, 0.0),
                                              (5, 0.0, 0.95)]],
    "policy": [policy_case(-1.5 + d, -1.5, a, e) for d in (-1.0, -0.3, -0.05, 0.0, 0.05, 0.3, 1.0)
               for a in (1.7, -0.6, 0.0) for e in (0.2, 0.1)],
    "value": [value_case(number(1), number(1), number(1), e) for e in (0.2, 1.0, 0.0)
              for _ in range(12)],
    "whiten": [whiten_case(torch.randn(n) * s + m) for n, s, m in
               [(2, 1, 0), (31, 0.1, 5), (200, 3, -1), (4, 1e-5, 0)]] + [whiten_case([2.0, 2.0, 2.0])],
    "control": [control_case(0.05, 6.0, 10000.0, [(3.0, 512), (6.0, 512), (6.6, 512), (100.0, 512)]),
                control_case(0.2, 1.0, 100.0, [(0.0, 64), (0.9, 64), (2.0, 128), (-1.0, 64)])],
}

# --- a whole iteration ----------------------------------------------------------------------------

V, T, L, H, C = 257, 24, 2, 2, 16
BATCH, MINIBATCHES, EPOCHS, ITERATION, SEED = 7, 2, 2, 3, 11
O = {"temperature": 0.7, "clip": 0.05, "clip_value": 0.05, "gamma": 0.99, "lambda": 0.95,
     "beta": 0.05, "target": 1.0, "horizon": 100.0, "no_stop_score": -1.5, "ptx_coef": 0.5,
     "ptx_ratio": 0.75, "policy_lr": 1e-3, "critic_lr": 1e-3, "eps": 1e-5, "beta1": 0.9,
     "beta2": 0.95, "decay": 0.1, "max_norm": 1.0, "ema": 0.9}


def shapes(head):
    s = [("wte.weight", (V, C)), ("wpe.weight", (T, C))]
    for l in range(L):
        for name, d in [("norm1", (C,)), ("attn.qkv", (3 * C, C)), ("attn.proj", (C, C)),
                        ("norm2", (C,)), ("mlp.fc", (4 * C, C)), ("mlp.proj", (C, 4 * C))]:
            s += [(f"h.{l}.{name}.weight", d), (f"h.{l}.{name}.bias", d[:1])]
    s += [("norm_f.weight", (C,)), ("norm_f.bias", (C,))]
    return s + ([("head.weight", (1, C)), ("head.bias", (1,))] if head else [])


def model(seed, other, head):
    """Parameter p, element j: noise(seed, p << 20 | j) plus an eighth of that of `other`."""
    w = {}
    for p, (name, shape) in enumerate(shapes(head)):
        x = [noise(seed, p << 20 | j) + 0.125 * noise(other, p << 20 | j)
             for j in range(math.prod(shape))]
        x = torch.tensor(x).reshape(shape)
        if len(shape) == 1:
            x = 0.5 * x + (1 if "norm" in name and name.endswith("weight") else 0)
        w[name] = float32(x).requires_grad_()
    return w


def hidden(w, tokens):
    n = len(tokens)
    x = w["wte.weight"][tokens] + w["wpe.weight"][:n]
    norm = lambda y, name: F.layer_norm(y, (C,), w[name + ".weight"], w[name + ".bias"], 1e-5)
    linear = lambda y, name: y @ w[name + ".weight"].T + w[name + ".bias"]
    causal = torch.full((n, n), -math.inf).triu(1)
    for l in range(L):
        q, k, v = linear(norm(x, f"h.{l}.norm1"), f"h.{l}.attn.qkv").split(C, dim=1)
        heads = lambda y: y.reshape(n, H, C // H).transpose(0, 1)
        p = (heads(q) @ heads(k).transpose(1, 2) / math.sqrt(C // H) + causal).softmax(-1)
        x = x + linear((p @ heads(v)).transpose(0, 1).reshape(n, C), f"h.{l}.attn.proj")
        u = F.gelu(linear(norm(x, f"h.{l}.norm2"), f"h.{l}.mlp.fc"), approximate="tanh")
        x = x + linear(u, f"h.{l}.mlp.proj")
    return norm(x, "norm_f")


def response_logps(w, e):
    """Log-probabilities and entropies of the response's tokens."""
    logits = hidden(w, e["prompt"] + e["response"]) @ w["wte.weight"].T / O["temperature"]
    logp = logits[len(e["prompt"]) - 1:-1].log_softmax(-1)
    return logp[range(len(e["response"])), e["response"]], -(logp.exp() * logp).sum(-1)


def scalars(w, tokens):
    return hidden(w, tokens) @ w["head.weight"][0] + w["head.bias"]


def order_item(seed, epoch, i, n):
    if n == 1:
        return 0
    key = mix(mix(seed) ^ epoch)
    bits = (n - 1).bit_length()
    low_bits = (bits + 1) // 2
    low_mask, high_mask = (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1
    x = i
    while True:
        low, high = x & low_mask, x >> low_bits
        for r in range(0, 8, 2):
            low ^= mix((key + (r << 32) + high) & MASK) & low_mask
            high ^= mix((key + ((r + 1) << 32) + low) & MASK) & high_mask
        x = high << low_bits | low
        if x < n:
            return x


def share(n, k, parts):  # contiguous, sizes differ by at most one
    each, more = divmod(n, parts)
    begin = k * each + min(k, more)
    return begin, begin + each + (k < more)


def windows_of(documents):
    """Windows of T inputs and the token after; of a document of at most T+1 tokens all of it. The
    lengths below are such that the grid over a document has no room for a shift."""
    return [d[at:at + T + 1] for d in documents for at in range(0, max(len(d) - T, 1), T)]


def adamw(w):
    return torch.optim.AdamW([{"params": [x for x in w.values() if x.dim() == 2], "weight_decay": O["decay"]},
                              {"params": [x for x in w.values() if x.dim() == 1], "weight_decay": 0.0}],
                             lr=1.0, betas=(O["beta1"], O["beta2"]), eps=O["eps"])


def step(w, optimizer, lr):
    norm = math.sqrt(sum((x.grad ** 2).sum().item() for x in w.values()))
    for x in w.values():
        x.grad *= min(1.0, O["max_norm"] / norm)
    for g in optimizer.param_groups:
        g["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return norm


def some(w):
    """Of every parameter up to ten elements, and its projection on noise, which sees all of it."""
    out = {}
    for p, (name, x) in enumerate(w.items()):
        x = x.detach().flatten()
        stride = max(len(x) // 10, 1)
        dot = sum(noise(99, p << 20 | j) * v for j, v in enumerate(x.tolist()))
        out[name] = {"stride": stride, "x": x[::stride][:10].tolist(), "dot": dot}
    return out


def iteration_part():
    policy, reference = model(1, 2, False), model(1, 3, False)
    critic, reward = model(4, 5, True), model(4, 6, True)
    episodes = []
    for i in range(BATCH):
        n, m = 2 + mix(1000 + i) % 6, (1, 9, 5, 16, 2, 7, 12)[i]
        tokens = [1 + mix(2000 + 100 * i + t) % (V - 1) for t in range(n + m)]
        if i % 3 != 1:
            tokens[-1] = 0  # the stop token
        episodes.append({"prompt": tokens[:n], "response": tokens[n:], "stopped": i % 3 != 1})
    letters = [ord("a") + mix(3000 + i) % 26 for i in range(200)]
    texts = [letters[:2 * T + 1], letters[60:70], letters[70:70 + T + 1], letters[100:104],
             letters[110:110 + 3 * T + 1]]
    # ids of bytes: after the special token GPT-2's byte alphabet, which begins with "!"
    windows = windows_of([[1 + b - ord("!") for b in text] for text in texts])

    kl, kl3, advantages = 0.0, 0.0, []
    for e in episodes:
        with torch.no_grad():
            tokens, n = e["prompt"] + e["response"], len(e["response"])
            logp, entropy = response_logps(policy, e)
            ref = response_logps(reference, e)[0]
            value = scalars(critic, tokens)[len(e["prompt"]) - 1:-1]
            score = scalars(reward, tokens)[-1].item() if e["stopped"] else O["no_stop_score"]
            r = -O["beta"] * (logp - ref)
            r[-1] += score
            a, last, last_v = torch.zeros(n), 0.0, 0.0
            for t in reversed(range(n)):
                last = r[t] + O["gamma"] * last_v - value[t] + O["gamma"] * O["lambda"] * last
                a[t], last_v = last, value[t]
            kl += (logp - ref).sum().item() / BATCH
            kl3 += ((ref - logp).exp() - 1 + logp - ref).sum().item() / BATCH
        e.update(logp=logp, ref_logp=ref, entropy=entropy, value=value, score=score, reward=r,
                 ret=a + value)
        advantages.append(a)
    flat = torch.cat(advantages)
    mean, std = flat.mean(), torch.sqrt(flat.var(unbiased=False) + 1e-8)
    for e, a in zip(episodes, advantages):
        e["advantage"] = (a - mean) / std

    adam_p, adam_c = adamw(policy), adamw(critic)
    ema = {k: x.detach().clone() for k, x in policy.items()}
    updates, seen = [], ITERATION * EPOCHS * BATCH
    for k in range(EPOCHS):
        for m in range(MINIBATCHES):
            begin, end = share(BATCH, m, MINIBATCHES)
            pick = [order_item(SEED, ITERATION * EPOCHS + k, i, BATCH) for i in range(begin, end)]
            mb = [episodes[i] for i in pick]
            cat = lambda name: torch.cat([e[name] for e in mb])
            ratio = (torch.cat([response_logps(policy, e)[0] for e in mb]) - cat("logp")).exp()
            free = -cat("advantage") * ratio
            held = -cat("advantage") * ratio.clamp(1 - O["clip"], 1 + O["clip"])
            policy_loss = torch.max(free, held).mean()
            first, last = (math.floor(O["ptx_ratio"] * n) for n in (seen, seen + len(pick)))
            pretrain = [windows[order_item(SEED, j // len(windows), j % len(windows), len(windows))]
                        for j in range(first, last)]
            seen += len(pick)
            nll = torch.cat([F.cross_entropy(hidden(policy, w[:-1]) @ policy["wte.weight"].T,
                                             torch.tensor(w[1:]), reduction="none") for w in pretrain])
            ptx_loss = nll.mean()
            (policy_loss + O["ptx_coef"] * ptx_loss).backward()
            v = torch.cat([scalars(critic, e["prompt"] + e["response"])[len(e["prompt"]) - 1:-1]
                           for e in mb])
            vc = v.clamp(cat("value") - O["clip_value"], cat("value") + O["clip_value"])
            worse = torch.max((v - cat("ret")) ** 2, (vc - cat("ret")) ** 2)
            value_loss = 0.5 * worse.mean()
            value_loss.backward()
            updates.append({"pick": pick, "windows": [len(w) for w in pretrain], "policy_loss": policy_loss.item(),
                            "ptx_loss": ptx_loss.item(), "value_loss": value_loss.item(),
                            "approxkl": (0.5 * ratio.log() ** 2).mean().item(),
                            "clipfrac": (held > free).double().mean().item(),
                            "value_clipfrac": ((vc - cat("ret")) ** 2 > (v - cat("ret")) ** 2)
                            .double().mean().item(),
                            "ratio": ratio.mean().item(),
                            "policy_norm": step(policy, adam_p, O["policy_lr"]),
                            "critic_norm": step(critic, adam_c, O["critic_lr"])})
            for name, x in policy.items():
                ema[name] = O["ema"] * ema[name] + (1 - O["ema"]) * x.detach()
    control = control_case(O["beta"], O["target"], O["horizon"], [(kl, BATCH)])
    plain = lambda e: {k: x.tolist() if torch.is_tensor(x) else x for k, x in e.items()}
    return {"vocab": V, "context": T, "layers": L, "heads": H, "width": C, "batch": BATCH,
            "minibatches": MINIBATCHES, "epochs": EPOCHS, "iteration": ITERATION, "seed": SEED, "options": O,
            "documents": [bytes(t).decode() for t in texts], "episodes": [plain(e) for e in episodes],
            "kl": kl, "kl3": kl3, "beta_after": control["betas"][0], "updates": updates,
            "policy": some(policy), "critic": some(critic), "ema": some(ema)}


if __name__ == "__main__":
    print(json.dumps({"ranking": ranking, "math": math_part, "iteration": iteration_part()}, indent=None))
