"""Makes tests/golden/dpo.json: losses on preferences and their derivatives in PyTorch, in double, by
autograd, written down from the papers. Where TRL is installed its SimPO and ORPO are compared, too.

Remake:  pip install torch==2.*; python3 tests/golden/dpo_golden.py > tests/golden/dpo.json
"""
import json
import sys
import types

import torch

torch.manual_seed(20240924)
torch.set_default_dtype(torch.float64)
F = torch.nn.functional


def pair(o, w, l):  # (logp, ref, n) of the better and of the worse answer
    n = lambda a: max(a[2], 1)
    length = n if o["mean"] else lambda a: 1
    beta, e, sft = o["beta"], o["smoothing"], o["sft"]
    ratio = lambda a: (a[0] - a[1]) / length(a)
    mean = lambda a: a[0] / n(a)
    nll = -mean(w)
    if o["loss"] == "sigmoid":  # Rafailov 2023, eq. 7; smoothing: Mitchell 2023
        h = beta * (ratio(w) - ratio(l))
        loss = -(1 - e) * F.logsigmoid(h) - e * F.logsigmoid(-h)
    elif o["loss"] == "ipo":  # Azar 2023, eq. 17
        loss = (ratio(w) - ratio(l) - 1 / (2 * beta)) ** 2
    elif o["loss"] == "hinge":  # Zhao 2023 on DPO's rewards
        loss = torch.relu(1 - beta * (ratio(w) - ratio(l)))
    elif o["loss"] == "simpo":  # Meng 2024, eq. 6
        h = beta * mean(w) - beta * mean(l) - o["margin"]
        loss = -(1 - e) * F.logsigmoid(h) - e * F.logsigmoid(-h)
    elif o["loss"] == "orpo":  # Hong 2024, eq. 6 and 7
        odds = lambda a: torch.log(torch.exp(mean(a)) / (1 - torch.exp(mean(a))))
        loss = nll - beta * F.logsigmoid(odds(w) - odds(l))
    return loss + sft * nll


def kto(o, a, desirable):  # Ethayarajh 2024, eq. 8
    r = (a[0] - a[1]) / (max(a[2], 1) if o["mean"] else 1)
    if desirable:
        value = o["weight"][0] * torch.sigmoid(o["beta"] * (r - o["kl"]))
        return o["weight"][0] - value - o["sft"] * a[0] / max(a[2], 1)
    return o["weight"][1] - o["weight"][1] * torch.sigmoid(o["beta"] * (o["kl"] - r))


def case(o, logp, ref, n, rank):
    x = torch.tensor(logp, requires_grad=True)
    a = list(zip(x, ref, n))
    K = len(rank)
    if o["loss"] == "kto":
        loss = sum(kto(o, a[i], rank[i] == 1) for i in range(K))
    else:
        terms = [pair(o, a[i], a[j]) for i in range(K) for j in range(K) if rank[i] < rank[j]]
        loss = torch.stack(terms).mean() if terms else 0 * x.sum()
    loss.backward()
    return {**o, "logp": logp, "ref": ref, "n": n, "rank": rank, "value": loss.item(),
            "grad": x.grad.tolist()}


def options(loss, **more):
    o = {"loss": loss, "mean": loss in ("ipo", "simpo", "orpo"), "beta": 0.1, "smoothing": 0.0,
         "margin": 0.5, "sft": 0.0, "weight": [1.0, 1.0], "kl": 0.0}
    return {**o, **more}


def answers(K, scale=1.0):
    n = [int(k) for k in torch.randint(1, 40, (K,))]
    ref = [-float(torch.rand(()) * 2 + 0.1) * k for k in n]
    logp = [min(r + float(torch.randn(())) * scale * k ** 0.5, -0.01 * k) for r, k in zip(ref, n)]
    return logp, ref, n


cases = []
for loss in "sigmoid", "ipo", "hinge", "simpo", "orpo", "kto":
    smooth = [0.0, 0.1, 0.5] if loss in ("sigmoid", "simpo") else [0.0]
    for beta in 1e-6, 0.01, 0.1, 2.0, 1e4:
        for e in smooth:
            for rank in [1, 2], [2, 1], [1, 2, 1, 3, 2], [4, 3, 2, 1], [1, 1], [2, 2, 1]:
                o = options(loss, beta=beta, smoothing=e, margin=float(torch.rand(())),
                            sft=0.3 if len(rank) == 3 else 0.0)
                if loss == "kto":
                    o["weight"], o["kl"] = [1.3, 0.7], float(torch.rand(()) * 3)
                    rank = [1 if r == 1 else 2 for r in rank]
                cases.append(case(o, *answers(len(rank)), rank))
    if loss not in ("simpo", "orpo"):  # the other way to count lengths
        cases.append(case(options(loss, mean=loss != "ipo"), *answers(4), [1, 2, 2, 1]))
    # one token; an empty answer (but ORPO, whose odds are infinite); far from the reference; equal
    cases.append(case(options(loss), [-0.3, -2.0], [-0.7, -1.5], [1, 1], [1, 2]))
    if loss != "orpo":
        cases.append(case(options(loss), [0.0, -3.0], [0.0, -2.5], [0, 4], [2, 1]))
        cases.append(case(options(loss), [0.0, -3.0], [0.0, -2.5], [0, 4], [1, 2]))
    cases.append(case(options(loss, beta=1.0), [-900.0, -1.0], [-1.0, -900.0], [9, 9], [1, 2]))
    cases.append(case(options(loss), [-5.0, -5.0], [-5.0, -5.0], [3, 3], [1, 2]))

try:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer
except ImportError:
    print("TRL is not there: not compared", file=sys.stderr)
else:
    same = 0
    for c in cases:
        if len(c["rank"]) != 2 or c["rank"][0] == c["rank"][1] or 0 in c["n"] or c["sft"]:
            continue
        i = c["rank"].index(min(c["rank"]))
        mean = [torch.tensor([x / k]) for x, k in zip(c["logp"], c["n"])]
        me = types.SimpleNamespace(beta=c["beta"], alpha=0.0, simpo_gamma=c["margin"], loss_type="simpo",
                                   label_smoothing=c["smoothing"],
                                   accelerator=types.SimpleNamespace(device="cpu"))
        if c["loss"] == "simpo":
            theirs = CPOTrainer.cpo_loss(me, mean[i], mean[1 - i])[0].item()
        elif c["loss"] == "orpo":  # in single precision
            theirs = -ORPOTrainer.odds_ratio_loss(me, mean[i], mean[1 - i])[0].item() - mean[i].item()
        else:
            continue
        assert abs(theirs - c["value"]) <= 1e-5 * max(1, abs(theirs)), (theirs, c)
        same += 1
    print(f"{same} cases agree with TRL", file=sys.stderr)

print("[")
print(",\n".join(json.dumps(c) for c in cases))
print("]")
