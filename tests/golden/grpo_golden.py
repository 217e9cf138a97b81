"""Makes tests/golden/grpo.json: whole iterations without a critic in PyTorch, in double, by autograd:
advantages within groups, then inner epochs over minibatches with AdamW. Models, order of minibatches
and optimizer are those of rl_golden.py.

grpo  Shao 2024, eq. 3 and 4: group mean and deviation, mean of means, k3 in the loss
rloo  Ahmadian 2024: the other samples' mean as baseline, KL in the reward
dapo  Yu 2025: mean over all tokens, clips apart, no reference
gspo  Zheng 2025: one ratio a response
dr    Dr. GRPO (Liu 2025): neither deviation nor lengths

Remake:  pip install torch==2.*; python3 tests/golden/grpo_golden.py > tests/golden/grpo.json
"""
import json
import math

import torch

import rl_golden as rl

K, GROUPS, MINIBATCHES, EPOCHS, ITERATION, SEED, LONGEST = 4, 3, 3, 2, 2, 13, 16
BATCH = K * GROUPS
VARIANTS = {
    "grpo": dict(loo=False, scale=True, aggregate="sequence", high=0.05, sequence=False, kl="loss", beta=0.3),
    "rloo": dict(loo=True, scale=False, aggregate="constant", high=0.05, sequence=False, kl="reward", beta=0.3),
    "dapo": dict(loo=False, scale=True, aggregate="token", high=0.2, sequence=False, kl="loss", beta=0.0),
    "gspo": dict(loo=False, scale=True, aggregate="sequence", high=0.05, sequence=True, kl="loss", beta=0.1),
    "dr": dict(loo=False, scale=False, aggregate="constant", high=0.05, sequence=False, kl="loss", beta=0.0),
}
LOW = {"gspo": 0.03}
CLIP, LR = 0.05, 5e-4


def episodes():
    out = []
    for i in range(BATCH):
        g = i // K
        n, m = 2 + rl.mix(1000 + g) % 6, 1 + rl.mix(1500 + i) % LONGEST
        prompt = [1 + rl.mix(2000 + 100 * g + t) % (rl.V - 1) for t in range(n)]
        response = [1 + rl.mix(4000 + 100 * i + t) % (rl.V - 1) for t in range(m - 1)] + [0]
        out.append({"prompt": prompt, "response": response, "stopped": True,
                    "score": [0.0, 1.0, 0.25, -0.5][rl.mix(7000 + i) % 4]})
    out[1]["score"], out[5]["score"] = 2.0, 1.5  # no group without a signal
    return out


def iteration(o, low):
    policy, reference = rl.model(1, 2, False), rl.model(1, 3, False)
    e = episodes()
    for x in e:
        with torch.no_grad():
            x["old"] = rl.response_logps(policy, x)[0]
            x["ref"] = rl.response_logps(reference, x)[0] if o["beta"] else x["old"]
    for g in range(GROUPS):
        group = e[g * K:(g + 1) * K]
        r = torch.tensor([x["score"] for x in group])
        if o["kl"] == "reward":
            r = r - o["beta"] * torch.stack([(x["old"] - x["ref"]).sum() for x in group])
        for i, x in enumerate(group):
            base = (r.sum() - r[i]) / (K - 1) if o["loo"] else r.mean()
            x["advantage"] = (r[i] - base) / (r.std() + 1e-4 if o["scale"] else 1)
    adam, updates = rl.adamw(policy), []
    for k in range(EPOCHS):
        for m in range(MINIBATCHES):
            begin, end = rl.share(BATCH, m, MINIBATCHES)
            mb = [e[rl.order_item(SEED, ITERATION * EPOCHS + k, i, BATCH)] for i in range(begin, end)]
            tokens = sum(len(x["response"]) for x in mb)
            loss = kl = 0.0
            stats = dict(approxkl=0.0, clipfrac=0.0, ratio=0.0)
            for x in mb:
                n, new = len(x["response"]), rl.response_logps(policy, x)[0]
                weight = {"token": 1 / tokens, "sequence": 1 / (len(mb) * n),
                          "constant": 1 / (len(mb) * LONGEST)}[o["aggregate"]]
                d = new - x["old"]
                if o["sequence"]:  # a token's share of its response's loss
                    d = d.mean().expand(n)
                free = -x["advantage"] * d.exp()
                held = -x["advantage"] * d.exp().clamp(1 - low, 1 + o["high"])
                loss = loss + weight * torch.max(free, held).sum()
                kl = kl + weight * ((x["ref"] - new).exp() - 1 - (x["ref"] - new)).sum()
                stats["approxkl"] += (0.5 * d ** 2).sum().item() / tokens
                stats["clipfrac"] += (held > free).double().sum().item() / tokens
                stats["ratio"] += d.exp().sum().item() / tokens
            (loss + (o["beta"] * kl if o["kl"] == "loss" else 0)).backward()
            updates.append({"policy_loss": loss.item(), "kl_loss": kl.item() if o["kl"] == "loss" else 0.0,
                            "norm": rl.step(policy, adam, LR), **stats})
    mean = lambda name: sum(u[name] for u in updates) / len(updates)
    return {**o, "low": low, "advantage": [x["advantage"].item() for x in e],
            "mean": {name: mean(name) for name in updates[0]}, "last_norm": updates[-1]["norm"],
            "policy": rl.some(policy)}


if __name__ == "__main__":
    print(json.dumps({"vocab": rl.V, "context": rl.T, "layers": rl.L, "heads": rl.H, "width": rl.C,
                      "samples": K, "batch": BATCH, "minibatches": MINIBATCHES, "epochs": EPOCHS,
                      "iteration": ITERATION, "seed": SEED, "longest": LONGEST, "lr": LR,
                      "options": rl.O, "episodes": episodes(),
                      "variants": {k: iteration(o, LOW.get(k, CLIP)) for k, o in VARIANTS.items()}}))
