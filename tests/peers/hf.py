"""Models in and out of Rhetor against Hugging Face's transformers, and TRL with our reward model.

    python tests/peers/hf.py BIN [--gpt2] [--weights DIR]

BIN: the folder with rhetor-ckpt. Needs torch, transformers, safetensors, and for its last lines trl.
Prints one line a comparison: the largest difference of a log-probability or a score, of how many.
--gpt2 adds a model of GPT-2 small's shape (500 MB a file); --weights a folder of Hugging Face
folders. Leaves with 1 when a difference exceeds 1e-5, ids differ, or bits do.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer,
                          GPT2Config, GPT2LMHeadModel, GPT2Model)

transformers.utils.logging.disable_progress_bar()
LIMIT = 1e-5
failures = 0
args = None
work = None


def run(program, *arguments, stdin=None, fails=False):
    p = subprocess.run([os.path.join(args.bin, program), *map(str, arguments)], input=stdin,
                       capture_output=True, text=True)
    if p.returncode != 0 and not fails:
        sys.exit(f"{program} {' '.join(map(str, arguments))}: {p.stderr or p.stdout}")
    return p.stdout


def line(what, difference, count, unit, fine=None):
    global failures
    fine = difference <= LIMIT if fine is None else fine
    failures += not fine
    print(f"{what:58} {difference:9.2g}  {count:7} {unit:18} {'ok' if fine else 'DIFFERS'}", flush=True)


def lines(objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


# --- log-probabilities -----------------------------------------------------------------------------
def random_sequences(vocab, context, n, seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab, (length,), generator=g).tolist()
            for length in torch.randint(2, context + 1, (n,), generator=g).tolist()]


def theirs(model, sequences):
    """In double, so that the difference is ours."""
    model.eval().double()
    out = []
    with torch.no_grad():
        for s in sequences:
            logp = model(torch.tensor([s])).logits[0, :-1].log_softmax(-1)
            out.append(logp[torch.arange(len(s) - 1), torch.tensor(s[1:])].tolist())
    return out


def ours(checkpoint, sequences):
    said = run("rhetor-eval", "logprobs", "-m", checkpoint, "-", stdin=lines({"tokens": s} for s in sequences))
    return [json.loads(l)["logprobs"] for l in said.splitlines()]


def largest(a, b):
    flat = [(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)]
    return max(abs(x - y) for x, y in flat), len(flat)


# --- import ----------------------------------------------------------------------------------------
def byte_tokenizer(vocab):
    """A tokenizer.json of at most `vocab` ids that any model can carry."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:vocab - 1]
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters + ["<|endoftext|>"])}, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|endoftext|>"])
    path = os.path.join(work, f"bytes_{vocab}.json")
    t.save(path)
    return path


def randomise(model, seed):
    """transformers' own start is so small that a lost bias or gain would not show."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 2 else 0.3))
            if "ln_" in name and name.endswith("weight"):
                p += 1
    return model


def check_import(what, folder, sequences, tokenizer):
    out = os.path.join(work, f"import_{len(os.listdir(work))}.h5")
    run("rhetor-ckpt", "import", folder, out, "--tokenizer", tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    line("import: " + what, *largest(ours(out, sequences), theirs(model, sequences)), "log-probabilities")
    return out


def check_imports():
    shape = dict(vocab_size=300, n_positions=48, n_embd=32, n_layer=3, n_head=4)
    tokenizer = byte_tokenizer(300)
    sequences = random_sequences(300, 48, 20, 1)
    kinds = [("tied, gelu_new", {}, None),
             ("tied, gelu", {"activation_function": "gelu"}, None),
             ("tied, gelu_pytorch_tanh", {"activation_function": "gelu_pytorch_tanh"}, None),
             ("separate lm_head, gelu_new", {"tie_word_embeddings": False}, None),
             ("separate lm_head, gelu", {"tie_word_embeddings": False, "activation_function": "gelu"}, None),
             ("fp16", {}, torch.float16),
             ("bf16", {}, torch.bfloat16),
             ("bf16, separate lm_head, gelu",
              {"tie_word_embeddings": False, "activation_function": "gelu"}, torch.bfloat16)]
    for i, (what, more, dtype) in enumerate(kinds):
        folder = os.path.join(work, f"hf_{i}")
        model = randomise(GPT2LMHeadModel(GPT2Config(**shape, **more)), i)
        (model.to(dtype) if dtype else model).save_pretrained(folder)
        check_import(what, folder, sequences, tokenizer)

    folder = os.path.join(work, "sharded")
    randomise(GPT2LMHeadModel(GPT2Config(**shape)), 20).save_pretrained(folder, max_shard_size="40KB")
    shards = sum(f.endswith(".safetensors") for f in os.listdir(folder))
    check_import(f"{shards} shards with an index", folder, sequences, tokenizer)

    folder = os.path.join(work, "bare")
    randomise(GPT2Model(GPT2Config(**shape)), 21).save_pretrained(folder)
    check_import("GPT2Model, no \"transformer.\" before the names", folder, sequences, tokenizer)

    folder = os.path.join(work, "nobias")
    model = randomise(GPT2LMHeadModel(GPT2Config(**shape, activation_function="gelu")), 22)
    model.save_pretrained(folder)
    weights = load_file(os.path.join(folder, "model.safetensors"))
    weights = {k: v for k, v in weights.items() if not k.endswith(".bias")}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    check_import("no biases", folder, sequences, tokenizer)

    if args.gpt2:
        folder = os.path.join(work, "gpt2")
        transformers.set_seed(1)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
        check_import("GPT-2 small's shape, 124 million, transformers' start", folder,
                     random_sequences(50257, 200, 4, 2), byte_tokenizer(257))
        shutil.rmtree(folder)
    for name in sorted(os.listdir(args.weights)) if args.weights else []:
        folder = os.path.join(args.weights, name)
        if os.path.exists(os.path.join(folder, "config.json")):
            config = json.load(open(os.path.join(folder, "config.json")))
            vocab, context = config["vocab_size"], config["n_positions"]
            check_import("weights/" + name, folder, random_sequences(vocab, min(context, 200), 20, 3),
                         byte_tokenizer(min(vocab, 257)))


# --- export ----------------------------------------------------------------------------------------
TEXTS = ["Hello world", " two  spaces", "Ben likes soup.\n\nFay lives in Rome.", "don't, it's",
         "\u4f60\u597d\uff0c\u4e16\u754c", "na\u00efve caf\u00e9 \U0001F600\U0001F468\u200d\U0001F469\u200d\U0001F467",
         "x = 12345 * (y+1)\t# code", "\u00a0\u2028 odd white space \u3000", "", "<|endoftext|>", "\x00\x7f"]


def exported(checkpoint, name):
    folder = os.path.join(work, name)
    run("rhetor-ckpt", "export", "--format", "hf", checkpoint, folder)
    return folder


def check_tokenizer(what, folder, original):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = run("rhetor-data", "encode", "--ids", "--tokenizer", original, "-", stdin=lines({"text": t} for t in TEXTS))
    wrong = ids = 0
    for text, l in zip(TEXTS, said.splitlines(), strict=True):
        want = json.loads(l)
        want = want if isinstance(want, list) else want["ids"] if "ids" in want else want["tokens"]
        have = tokenizer(text, split_special_tokens=True)["input_ids"]
        wrong += have != want or tokenizer.decode(have) != text
        ids += len(want)
    line(f"{what}: AutoTokenizer's ids", wrong, ids, "ids", wrong == 0)
    return tokenizer


def check_export(what, checkpoint, name, original=None):
    folder = exported(checkpoint, name)
    model = GPT2LMHeadModel.from_pretrained(folder)
    sequences = random_sequences(model.config.vocab_size, model.config.n_positions, 20, 5)
    line("export: " + what, *largest(ours(checkpoint, sequences), theirs(model, sequences)), "log-probabilities")
    if original:
        check_tokenizer("export: " + what, folder, original)
    back = os.path.join(work, name + "_back.h5")
    run("rhetor-ckpt", "import", folder, back)
    said = run("rhetor-ckpt", "diff", "--only", "params", checkpoint, back, fails=True)
    same = "are bit-identical" in said and "tokenizers differ" not in said
    line("export: " + what + ", imported again", 0 if same else 1, 1, "bit-identical", same)
    return folder


def check_exports(tiny):
    shape = dict(vocab_size=300, n_positions=48, n_embd=32, n_layer=3, n_head=4)
    tokenizer = byte_tokenizer(300)
    for i, (what, more) in enumerate([("separate lm_head, gelu", {"tie_word_embeddings": False,
                                                                   "activation_function": "gelu"}),
                                      ("tied, gelu_new", {})]):
        folder, h5 = os.path.join(work, f"ex_{i}"), os.path.join(work, f"ex_{i}.h5")
        randomise(GPT2LMHeadModel(GPT2Config(**shape, **more)), 30 + i).save_pretrained(folder)
        run("rhetor-ckpt", "import", folder, h5, "--tokenizer", tokenizer)
        check_export(what, h5, f"out_{i}")
    nobias = os.path.join(work, "nobias.h5")
    run("rhetor-ckpt", "import", os.path.join(work, "nobias"), nobias, "--tokenizer", tokenizer)
    check_export("no biases, gelu", nobias, "out_nobias")
    return check_export("trained by rhetor-sft", os.path.join(tiny, "sft"), "sft",
                        os.path.join(tiny, "tokenizer.json"))


# --- the reward model --------------------------------------------------------------------------------
def check_reward(tiny):
    """Our scores of (prompt, completion) and transformers', of batches padded on either side."""
    folder = exported(os.path.join(tiny, "reward"), "reward")
    tokenizer = check_tokenizer("reward model", folder, os.path.join(tiny, "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert type(model).__name__ == "GPT2ForSequenceClassification" and model.config.num_labels == 1
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    pairs, ids = [], []
    for l in open(os.path.join(tiny, "data", "sft_heldout.jsonl")):  # in the template of configs/tiny, plain
        p = json.loads(l)
        one = (tokenizer(p["prompt"] + "\n")["input_ids"] + tokenizer(p["completion"])["input_ids"] +
               [tokenizer.eos_token_id])
        if len(one) <= model.config.n_positions:
            pairs.append(p)
            ids.append(one)
    with open(os.path.join(work, "pairs.jsonl"), "w") as f:
        f.write(lines(pairs))
    said = run("rhetor-eval", "reward", "-m", os.path.join(tiny, "reward"), os.path.join(work, "pairs.jsonl"))
    want = torch.tensor([json.loads(l)["score"] for l in said.splitlines()])
    for side in ["right", "left"]:
        tokenizer.padding_side = side
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        with torch.no_grad():
            if side == "left":
                batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
            have = model(**batch).logits[:, 0]
        line(f"reward model in transformers, padded on the {side}", (have - want).abs().max().item(),
             len(want), "scores")
    return folder, ids, want, tokenizer


def check_trl(sft, reward, ids, want, tokenizer):
    try:
        import trl
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
        from trl.experimental.utils import get_reward
    except ImportError as e:
        print(f"TRL: not installed ({e}): skipped")
        return
    model = AutoModelForSequenceClassification.from_pretrained(reward).eval()
    tokenizer.padding_side = "right"
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        _, have, _ = get_reward(model, batch, tokenizer.pad_token_id, 0)
    line(f"reward model in TRL {trl.__version__}, get_reward", (have - want).abs().max().item(), len(want), "scores")

    tok = AutoTokenizer.from_pretrained(sft)
    tok.pad_token = tok.eos_token
    config = GRPOConfig(output_dir=os.path.join(work, "grpo"), max_steps=2, per_device_train_batch_size=4,
                        num_generations=4, max_completion_length=12, use_cpu=True, report_to=[],
                        save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False)
    trainer = GRPOTrainer(model=sft, reward_funcs=reward, args=config, processing_class=tok,
                          reward_processing_classes=AutoTokenizer.from_pretrained(reward),
                          train_dataset=Dataset.from_list([{"prompt": "What does Ben like?\n"}] * 8))
    stdout, sys.stdout = sys.stdout, sys.stderr
    trainer.train()
    sys.stdout = stdout
    logs = [l for l in trainer.state.log_history if "reward" in l]
    line("TRL's GRPOTrainer, exported policy and reward model", 0, len(logs), "steps",
         len(logs) == 2 and all(torch.isfinite(torch.tensor(l["reward"])) for l in logs))


def main():
    global args, work
    p = argparse.ArgumentParser()
    p.add_argument("bin")
    p.add_argument("--gpt2", action="store_true")
    p.add_argument("--weights")
    args = p.parse_args()
    args.bin = os.path.abspath(args.bin)
    torch.set_num_threads(2)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"{'comparison':58} {'largest':>9}  {'of':>7}")
    with tempfile.TemporaryDirectory() as work:
        check_imports()
        tiny = os.path.join(work, "tiny")
        recipe = os.path.join(os.path.dirname(__file__), "..", "..", "configs", "tiny")
        run("rhetor-pipeline", recipe, "--run", tiny, "--until", "reward")
        sft = check_exports(tiny)
        check_trl(sft, *check_reward(tiny))
    print("all within 1e-5" if not failures else f"{failures} DIFFER")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
