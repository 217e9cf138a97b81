"""Makes tests/golden/stats.json: what SciPy and NumPy say about the numbers of tests/eval/test_stats.c.

Where random resamples are drawn the numbers of core/rng.h are drawn here too (Philox4x32-10), so that
the same resamples give the same interval; SciPy's own bootstrap, on other resamples, is beside it.

Remake:  pip install numpy scipy; python3 tests/golden/stats_golden.py > tests/golden/stats.json
"""
import itertools
import json
import math
import warnings
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(20261130)
MASK, RESAMPLE = 0xFFFFFFFF, 8


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def stream(seed):
    return philox([RESAMPLE, 0, 0, 0], [seed & MASK, seed >> 32])[:2]


def below(key, sample, position, index, bound):
    v = philox([sample & MASK, sample >> 32, position, index], key)
    return (((v[0] << 32) | v[1]) * bound) >> 64


def interval(mean, low, high):
    return [float(mean), float(low), float(high)]


# --- BCa: Efron and Tibshirani 1993, equations 14.9 to 14.15, on our resamples; SciPy's beside it
def bca(f, x, level, resamples, seed):
    n, key = len(x), stream(seed)
    est = f(x)
    boot = np.array([f(x[[below(key, r, 0, i, n) for i in range(n)]]) for r in range(resamples)])
    jack = np.array([f(np.delete(x, k)) for k in range(n)])
    u = jack.mean() - jack
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    z0 = stats.norm.ppf(((boot < est).sum() + 0.5 * (boot == est).sum()) / resamples)
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(boot, stats.norm.cdf(z0 + z / (1 - a * z)))
    return interval(est, low, high)


def hierarchical(x, level, resamples, seed):
    S, P = x.shape
    key, boot = stream(seed), []
    for r in range(resamples):
        columns = [below(key, r, 1, i, P) for i in range(P)]
        rows = [below(key, r, 0, k, S) for k in range(S)]
        boot.append(x[rows][:, columns].mean())
    return interval(x.mean(), *np.quantile(boot, [(1 - level) / 2, (1 + level) / 2]))


# --- best of n by its definition: all subsets
def best_of(score, value, n):
    out = []
    for s in itertools.combinations(range(len(score)), n):
        top = max(score[i] for i in s)
        out.append(np.mean([value[i] for i in s if score[i] == top]))
    return float(np.mean(out))


# --- the forms: least squares by SciPy's curve_fit
def gao(form, d, y, level):
    safe = np.where(d > 0, d, 1)
    w = d * d if form == "bon" else d * np.log(safe)
    f = lambda _, c, a, b: c + a * d - b * w
    p, cov = optimize.curve_fit(f, d, y, p0=[0, 1, 1])
    t = stats.t.ppf((1 + level) / 2, len(d) - 3)
    rss = float(((f(d, *p) - y) ** 2).sum())
    wide = t * np.sqrt(np.diag(cov))
    return {"c": float(p[0]), "a": interval(p[1], p[1] - wide[1], p[1] + wide[1]),
            "b": interval(p[2], p[2] - wide[2], p[2] + wide[2]), "rss": rss,
            "aic": len(d) * math.log(rss / len(d)) + 8,
            "peak": float(p[1] / (2 * p[2]) if form == "bon" else math.exp(p[1] / p[2] - 1))}


def monotone(d, y):
    f = lambda d, c, a, b: c + a * (1 - np.exp(-b * d))
    best = None
    for b in np.geomspace(1e-3, 1e2, 40):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                p, _ = optimize.curve_fit(f, d, y, p0=[y[0], 1, b], bounds=([-10, 0, 1e-6], [10, 100, 1e4]),
                                          ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=100000)
        except RuntimeError:
            continue
        rss = float(((f(d, *p) - y) ** 2).sum())
        best = rss if best is None else min(best, rss)
    return best


# --- Bradley-Terry by maximising the likelihood
def bradley_terry(w):
    n = len(w)
    def loss(s):
        s = np.append(s, -s.sum())
        diff = s[:, None] - s[None, :]
        return -(w * -np.log1p(np.exp(-diff)))[~np.eye(n, dtype=bool)].sum()
    s = optimize.minimize(loss, np.zeros(n - 1), method="BFGS", options={"gtol": 1e-11}).x
    s = np.append(s, -s.sum())
    return [float(v) for v in s]


def main():
    out = {"t_cdf": [[t, df, float(stats.t.cdf(t, df))] for t in (-40, -3.2, -0.7, 0, 0.1, 1.5, 9) for df in (1, 2, 3.5, 7, 400)],
           "t_quantile": [[p, df, float(stats.t.ppf(p, df))] for p in (1e-6, 0.025, 0.3, 0.5, 0.9, 0.9995) for df in (1, 2, 7, 100)],
           "normal": [[p, float(stats.norm.ppf(p))] for p in (1e-9, 0.001, 0.2, 0.5, 0.975, 0.9999)],
           "beta": [[x, a, b, float(stats.beta.cdf(x, a, b))] for x in (0.01, 0.3, 0.77, 0.999)
                    for a, b in ((0.5, 0.5), (2, 9), (40, 3), (300, 310))]}
    x = np.round(rng.normal(0.4, 0.5, 8), 4)
    skewed = np.round(rng.exponential(1, 12), 4)
    ci = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    out["t"] = {"x": x.tolist(), "interval": interval(x.mean(), ci.low, ci.high),
                "above": float(stats.ttest_1samp(x, 0.1, alternative="greater").pvalue),
                "tost": float(max(stats.ttest_1samp(x, -0.2, alternative="greater").pvalue,
                                  stats.ttest_1samp(x, 0.9, alternative="less").pvalue))}
    own = stats.bootstrap((skewed,), np.mean, confidence_level=0.95, n_resamples=50000, method="BCa", rng=7)
    out["bca"] = {"x": skewed.tolist(), "seed": 5, "resamples": 2000,
                  "mean": bca(np.mean, skewed, 0.95, 2000, 5),
                  "sd": bca(lambda v: np.std(v, ddof=1), skewed, 0.9, 2000, 5),
                  "scipy_mean": interval(skewed.mean(), own.confidence_interval.low, own.confidence_interval.high)}
    grid = np.round(rng.normal(0, 1, (4, 9)) + rng.normal(0, 1, (4, 1)), 3)
    out["hierarchical"] = {"x": grid.ravel().tolist(), "seeds": 4, "prompts": 9, "seed": 3, "resamples": 1000,
                           "interval": hierarchical(grid, 0.95, 1000, 3)}
    d = np.round(rng.normal(0.2, 1, 20), 3)
    labels = rng.integers(0, 7, 20)
    resid, groups = d - d.mean(), np.unique(labels)
    meat = sum(resid[labels == g].sum() ** 2 for g in groups)
    out["cluster"] = {"d": d.tolist(), "cluster": labels.tolist(), "mean": float(d.mean()),
                      "se": float(np.sqrt(len(groups) / (len(groups) - 1) * meat) / 20)}
    out["share"] = []
    for k, n in ((0, 8), (3, 8), (8, 8), (40, 1000)):
        c = stats.binomtest(k, n).proportion_ci(0.95, "exact")
        out["share"].append([k, n, c.low, c.high])
    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    order, running, holm = np.argsort(p), 0, [0.0] * 5
    for rank, i in enumerate(order):
        running = max(running, min(1, (5 - rank) * p[i]))
        holm[i] = running
    out["holm"] = {"p": p, "adjusted": holm}
    sx, sy = [3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8, 2, 9, 4]
    exact = stats.permutation_test((sx,), lambda a: abs(stats.spearmanr(a, sy).statistic), permutation_type="pairings",
                                   n_resamples=np.inf, alternative="greater")
    lx = rng.normal(0, 1, 30)
    ly = np.round(0.5 * lx + rng.normal(0, 1, 30), 3)
    lx = np.round(lx, 3)
    out["spearman"] = {"x": sx, "y": sy, "rho": float(stats.spearmanr(sx, sy).statistic), "p": float(exact.pvalue),
                       "long_x": lx.tolist(), "long_y": ly.tolist(), "long_rho": float(stats.spearmanr(lx, ly).statistic),
                       "long_p": float(stats.spearmanr(lx, ly).pvalue)}
    w = [[0, 3, 5.5, 2], [4, 0, 6, 1], [2.5, 1, 0, 3], [6, 2, 4, 0]]
    out["bradley_terry"] = {"wins": [v for row in w for v in row], "strength": bradley_terry(np.array(w))}
    score, value = [0.3, 0.9, 0.1, 0.9, 0.4, -1, 0.4, 2], [1, 5, 2, 7, 3, -4, 8, 6]
    out["best_of"] = {"score": score, "value": value, "mean": [best_of(score, value, n) for n in range(1, 9)]}
    kl = np.array([0, 0.01, 0.2, 0.9, 1.9, 2.5, 3.7, 5, 9])
    dd = np.sqrt(kl)
    bon = np.round(0.3 + dd * (0.9 - 0.33 * dd) + rng.normal(0, 0.03, 9), 4)
    rl = np.round(0.3 + dd * (0.6 - 0.5 * np.log(np.where(dd > 0, dd, 1))) + rng.normal(0, 0.03, 9), 4)
    up = np.round(0.3 + 1.1 * (1 - np.exp(-1.3 * dd)) + rng.normal(0, 0.02, 9), 4)
    out["fit"] = {"d": dd.tolist(), "bon": bon.tolist(), "rl": rl.tolist(), "up": up.tolist(),
                  "bon_fit": gao("bon", dd, bon, 0.95), "rl_fit": gao("rl", dd, rl, 0.95),
                  "bon_monotone": monotone(dd, bon), "rl_monotone": monotone(dd, rl), "up_monotone": monotone(dd, up),
                  "slope": float(stats.linregress(dd, up).slope)}
    print(json.dumps(out, indent=1))


main()
