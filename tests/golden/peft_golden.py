#!/usr/bin/env python3
"""Makes tests/golden/peft/: adapters of Hugging Face's Peft on the models of tests/golden/families/, with
random values, and the log-probability of every next token that transformers and Peft compute with them.
Run with transformers 5 and peft: tests/golden/peft_golden.py"""

import json
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {
    # q, k and v with an A each, scaled by sqrt(rank); some layers only
    "llama3": dict(r=3, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]),
    "qwen2": dict(r=2, lora_alpha=5, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                                     "up_proj", "down_proj"]),
    "qwen3": dict(r=2, lora_alpha=4, target_modules=["k_proj", "up_proj"],
                  layers_to_transform=[1]),
    # one matrix of q, k and v, its rows head by head
    "neox": dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense_h_to_4h", "dense"]),
    "opt": dict(r=2, lora_alpha=3, target_modules=["q_proj", "fc1", "fc2"]),
    "gpt2_inner": dict(r=3, lora_alpha=6, fan_in_fan_out=True, target_modules=["c_attn", "mlp.c_proj"]),
}


def main():
    out = os.path.join(HERE, "peft")
    shutil.rmtree(out, ignore_errors=True)
    for i, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(i)
        family = os.path.join(HERE, "families", name)
        model = AutoModelForCausalLM.from_pretrained(family, dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **case)).eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "lora_" in key:
                    p.copy_(torch.randn_like(p) * 0.3)
        folder = os.path.join(out, name)
        model.save_pretrained(folder)
        if os.path.exists(os.path.join(folder, "README.md")):
            os.remove(os.path.join(folder, "README.md"))
        path = os.path.join(folder, "adapter_config.json")
        config = json.load(open(path))
        config["base_model_name_or_path"] = name
        json.dump(config, open(path, "w"), indent=1, sort_keys=True)
        tokens = json.load(open(family + ".json"))["tokens"]
        ids = torch.tensor([tokens])
        with torch.no_grad():
            logp = model.double()(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
        with open(os.path.join(out, name + ".json"), "w") as f:
            json.dump({"tokens": tokens, "logp": [float(x) for x in logp[:, 0]]}, f)


main()
