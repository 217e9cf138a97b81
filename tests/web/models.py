"""Two small models, sft and base, for the tests of rhetor-serve."""
from web import *

TINY = os.path.join(os.path.dirname(BIN), "configs", "tiny")
MODELS = None


def models():
    """Two small models, made once: [sft, pretrain]."""
    global MODELS
    if MODELS:
        return MODELS
    at = tempfile.mkdtemp()
    os.environ["RUN"] = at
    run("rhetor-data", "synth", "--out", f"{at}/data", "--documents", 200, "--documents-heldout", 10, "--sft", 100,
        "--sft-heldout", 10, "--compare", 20, "--compare-heldout", 10, "--ppo", 10, "--eval", 10)
    run("rhetor-data", "tokenizer", "--vocab", 300, "--out", f"{at}/tokenizer.json", f"{at}/data/documents.jsonl")
    run("rhetor-data", "encode", "--tokenizer", f"{at}/tokenizer.json", "--out", f"{at}/train.h5", f"{at}/data/documents.jsonl")
    run("rhetor-pretrain", f"{TINY}/pretrain.yaml", "train.steps=30", "data.heldout=", "model.context=256")
    run("rhetor-sft", f"{TINY}/sft.yaml", "train.steps=5", "data.mix_ratio=0", "data.mix=", "data.template=hh")
    MODELS = [f"sft={at}/sft", f"base={at}/pretrain"]
    return MODELS


def serve(*more):
    return Server("rhetor-serve", *[w for m in models() for w in ("--model", m)], *more)
