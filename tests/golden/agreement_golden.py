"""tests/golden/agreement.json: agreement by krippendorff, scipy and scikit-learn's formulas.

    pip install krippendorff scipy statsmodels scikit-learn && python3 tests/golden/agreement_golden.py
"""
import json
import os

import krippendorff
import numpy as np
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

rng = np.random.default_rng(7)
out = {"alpha": [], "tau": [], "cohen": [], "fleiss": []}
for raters, units, k, gaps in ((2, 12, 7, 0), (3, 30, 7, 0.3), (5, 40, 2, 0.5), (4, 25, 4, 0.1)):
    truth = rng.integers(1, k + 1, units)
    v = np.clip(truth + rng.integers(-1, 2, (raters, units)), 1, k).astype(float)
    v[rng.random((raters, units)) < gaps] = np.nan
    out["alpha"].append({"value": [[None if np.isnan(x) else x for x in row] for row in v],
                         **{level: krippendorff.alpha(reliability_data=v, level_of_measurement=level)
                            for level in ("nominal", "ordinal", "interval")}})
for n in (2, 3, 4, 6, 9):
    x, y = rng.integers(1, n + 1, n).astype(float), rng.integers(1, n + 1, n).astype(float)
    x[0], y[-1] = n + 1, 0
    out["tau"].append({"x": x.tolist(), "y": y.tolist(), "tau": kendalltau(x, y).statistic})
for n, k in ((20, 3), (50, 2), (9, 3)):
    a = rng.integers(0, k, n)
    b = np.where(rng.random(n) < 0.6, a, rng.integers(0, k, n))
    count = np.zeros((k, k), int)
    np.add.at(count, (a, b), 1)
    out["cohen"].append({"count": count.tolist(), "kappa": cohen_kappa_score(a, b)})
for n, k, raters in ((15, 3, 4), (30, 2, 3)):
    count = rng.multinomial(raters, np.ones(k) / k, n)
    out["fleiss"].append({"count": count.tolist(), "kappa": fleiss_kappa(count)})
with open(os.path.join(os.path.dirname(__file__), "agreement.json"), "w") as f:
    json.dump(out, f)
    f.write("\n")
