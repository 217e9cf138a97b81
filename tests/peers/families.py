#!/usr/bin/env python3
"""Exports of the families' golden models against transformers: the log-probabilities of the same ids
(1e-5), no tensor missing or left over. Run in the tree, with transformers 5 and the programs built."""

import json
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

GOLDEN = "tests/golden/families"
bad = 0
for name in sorted(n for n in os.listdir(GOLDEN) if os.path.isdir(f"{GOLDEN}/{n}")):
    with tempfile.TemporaryDirectory() as tmp:
        for command in (["import", f"{GOLDEN}/{name}", f"{tmp}/m.h5"],
                        ["export", f"{tmp}/m.h5", f"{tmp}/out"]):
            subprocess.run(["bin/rhetor-ckpt", *command], check=True, capture_output=True)
        model, info = AutoModelForCausalLM.from_pretrained(f"{tmp}/out", dtype=torch.float32,
                                                           output_loading_info=True)
    golden = json.load(open(f"{GOLDEN}/{name}.json"))
    ids = torch.tensor([golden["tokens"]])
    with torch.no_grad():
        logp = model.eval()(ids).logits[0, :-1].log_softmax(-1)
    logp = logp[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    gap = float((logp - torch.tensor(golden["logp"])).abs().max())
    odd = {k: v for k, v in info.items() if v}
    print(f"{name:14} {type(model).__name__:20} differ by {gap:.1e} {odd or ''}")
    bad |= gap > 1e-5 or bool(odd)
sys.exit(bad)
