"""Our tokenizer beside tiktoken's and Hugging Face's: the same ids, and how fast.

    python tests/peers/tokenizer.py RHETOR_BIN_DIR [--data DIR] [--part exact|speed] [--mb 100]

Needs the packages tiktoken and tokenizers, and the files of ../shared/data (--data elsewhere).
Prints one table of exactness and one of speed; exit status 1 if any id differs or a ratio is
missed. Timings are medians of interleaved rounds; ratios are of the same run, and of CPU time where
one thread is at work, which other work on the machine hardly changes.
"""

import argparse
import base64
import glob
import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import tiktoken
import tokenizers
from tiktoken_ext import openai_public

HERE = os.path.dirname(os.path.abspath(__file__))


# --- the peers -----------------------------------------------------------------------------------

def tiktoken_encoding(name, path, constructor):
    """openai_public's encoding with the ranks from a local file instead of the network."""
    with open(path, "rb") as f:
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, f)}
    loaders = openai_public.load_tiktoken_bpe, openai_public.data_gym_to_mergeable_bpe_ranks
    openai_public.load_tiktoken_bpe = lambda *a, **k: ranks
    openai_public.data_gym_to_mergeable_bpe_ranks = lambda *a, **k: ranks
    try:
        return tiktoken.Encoding(**constructor())
    finally:
        openai_public.load_tiktoken_bpe, openai_public.data_gym_to_mergeable_bpe_ranks = loaders


class Ours:
    def __init__(self, bin_dir, tokenizer, threads=1):
        self.program = os.path.join(bin_dir, "rhetor-data")
        self.tokenizer = tokenizer
        self.env = dict(os.environ, OMP_NUM_THREADS=str(threads))

    def run(self, *args):
        done = subprocess.run([self.program, *args], env=self.env, capture_output=True)
        if done.returncode:
            sys.exit(f"{' '.join(args)}:\n{done.stderr.decode()}")
        return done.stdout

    def encode(self, texts, specials=False):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
            for text in texts:
                f.write(json.dumps({"text": text}) + "\n")
            f.flush()
            out = self.run("encode", "--ids", "--tokenizer", self.tokenizer,
                           *(["--specials"] if specials else []), f.name)
        return [json.loads(line)["ids"] for line in out.splitlines()]

    def decode(self, ids):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
            for i in ids:
                f.write(json.dumps({"ids": i}) + "\n")
            f.flush()
            out = self.run("decode", "--tokenizer", self.tokenizer, f.name)
        return [json.loads(line)["text"] for line in out.splitlines()]

    def seconds(self, clock, file, times):
        """Of encoding a text file, from the first byte read to the last id."""
        return json.loads(self.run("encode", "--count", "--tokenizer", self.tokenizer, *[file] * times))[clock] / times


# --- the texts -----------------------------------------------------------------------------------

def text_files(data):
    """Every text of the data: English and Chinese, and the files of records as plain text."""
    for path in sorted(glob.glob(os.path.join(data, "**"), recursive=True)):
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        if path.endswith((".h5", ".safetensors", ".bin", ".gguf", ".tiktoken")):
            continue
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
            raw = f.read()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            yield os.path.relpath(path, data), text


def random_strings(n, seed=1):
    """Strings that look for the borders of the splitting patterns."""
    rng = random.Random(seed)
    parts = ["a", "Z", "word", "Word", "WORD", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'S", "'LL", "'ſ", "1", "234",
             "5678", ".", "!?", "/", "//", "-", "_", "é", "e\u0301", "\u0301", "ǅ", "ʰ", "水", "低いところ", "ー", "🙂", "👩‍💻",
             "\u00a0", "\u3000", "\u2028", "\x85", "\u200b", "²", "Ⅷ", "٣", "½", "\u180e", "ﬁ", "ß", "İ", "<|x|>", "{", "}", "=="]
    for _ in range(n):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(1, 14)))


# --- exactness -----------------------------------------------------------------------------------

class Table:
    def __init__(self, *columns):
        self.rows = [columns]
        self.bad = 0

    def add(self, *row):
        self.rows.append(tuple(f"{x:,}" if isinstance(x, int) else str(x) for x in row))

    def compare(self, what, against, texts, ours, theirs):
        """Functions from a list of texts to a list of what belongs to each; a few at a time."""
        size = ids = n = 0
        for some in batches(texts):
            a, b = ours(some), theirs(some)
            size += sum(len(t.encode()) for t in some)
            ids += sum(map(len, b))
            n += abs(len(a) - len(b)) + sum(differences(x, y) for x, y in zip(a, b))
        self.bad += n
        self.add(what, against, len(texts), size, ids, n)

    def show(self):
        width = [max(len(r[i]) for r in self.rows) for i in range(len(self.rows[0]))]
        for r in self.rows:
            print("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))).rstrip())
        sys.stdout.flush()


def batches(texts, most=4 << 20):
    some, size = [], 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size > most:
            yield some
            some, size = [], 0
    if some:
        yield some


def differences(a, b):
    return 0 if a == b else sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))


def records(data, name):
    with open(os.path.join(data, "golden", name)) as f:
        return [json.loads(line) for line in f]


def exactness(bin_dir, data):
    tok = os.path.join(data, "tokenizers")
    table = Table("what", "against", "texts", "bytes", "ids", "differences")
    print(f"tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}\n")
    golden = records(data, "gpt2_encode.jsonl")
    strings = [g["text"] for g in golden]
    odd = list(random_strings(20000))
    files = [text for _, text in text_files(data)]
    small = [t for t in files if len(t) < 2e6]
    readers = [  # file, encoding, golden field, what Hugging Face's library is asked for
        ("gpt2_tokenizer.json", "gpt2", "ids", files),
        ("gpt2", "gpt2", "ids", []),  # gpt2_encoder.json and gpt2_vocab.bpe
        ("r50k_base.tiktoken", "gpt2", "ids", []),
        ("cl100k_base.tiktoken", "cl100k_base", "cl100k", small),
        ("o200k_base.tiktoken", "o200k_base", "o200k", small),
    ]
    with tempfile.TemporaryDirectory() as tmp:
        for file, name, field, hf_texts in readers:
            path = os.path.join(tok, file)
            ours = Ours(bin_dir, path)
            ranks = os.path.join(tok, name.replace("gpt2", "r50k_base") + ".tiktoken")
            peer = tiktoken_encoding(name, ranks, getattr(openai_public, name))
            ids = {g["text"]: g[field] for g in golden}
            table.compare(f"{file}: golden strings", "golden ids", strings, ours.encode,
                          lambda some: [ids[t] for t in some])
            table.compare(f"{file}: odd strings", "tiktoken", odd, ours.encode,
                          lambda some: [peer.encode_ordinary(t) for t in some])
            if file.endswith(".tiktoken"):
                table.compare(f"{file}: whole files", "tiktoken", files, ours.encode,
                              lambda some: [peer.encode_ordinary(t) for t in some])
                table.compare(f"{file}: files decoded again", "the files", files,
                              lambda some: ours.decode(ours.encode(some)), lambda some: some)
            if not hf_texts:
                continue
            saved = os.path.join(tmp, name + ".json")  # Hugging Face's library reads what we write
            ours.run("tokenizer", "--from", path, "--out", saved)
            hf = tokenizers.Tokenizer.from_file(path if file.endswith(".json") else saved)
            for what, texts in (("odd strings", odd), ("whole files", hf_texts)):
                table.compare(f"{file}: {what}", "tokenizers", texts,
                              lambda some: ours.encode(some, specials=True),  # which it always finds
                              lambda some: [e.ids for e in hf.encode_batch(some, add_special_tokens=False)])

        ours = Ours(bin_dir, os.path.join(tok, "gpt2_tokenizer.json"))
        decode = records(data, "gpt2_decode.jsonl")
        text_of = {json.dumps(r["ids"]): r["text_replace"] for r in decode}
        table.compare("gpt2_decode.jsonl", "golden text", list(text_of),
                      lambda some: ours.decode([json.loads(i) for i in some]), lambda some: [text_of[i] for i in some])
        invalid = {r["replaced_text"]: r["ids_of_replaced_text"] for r in records(data, "gpt2_invalid_utf8.jsonl")}
        table.compare("gpt2_invalid_utf8.jsonl", "golden ids", list(invalid), ours.encode,
                      lambda some: [invalid[t] for t in some])
        training_exactness(bin_dir, data, tmp, table)
    table.show()
    return table.bad


# --- training ------------------------------------------------------------------------------------

def hf_trained(texts, vocab, min_frequency=2):
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=min_frequency, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return t


def merges_of(tokenizer):
    merges = json.loads(tokenizer)["model"]["merges"]
    return [m if isinstance(m, str) else " ".join(m) for m in merges]


def train_ours(bin_dir, files, vocab, out, threads, *more):
    Ours(bin_dir, None, threads).run("tokenizer", "--vocab", str(vocab), "--out", out, *more, *files)
    with open(out) as f:
        return merges_of(f.read())


def training_exactness(bin_dir, data, tmp, table):
    out = os.path.join(tmp, "trained.json")
    en = os.path.join(data, "cs336/corpus.en")
    with open(os.path.join(data, "cs336/train-bpe-reference-merges.txt")) as f:
        reference = f.read().splitlines()

    def row(what, against, files, got, want):
        n = differences(got, want)
        table.bad += n
        table.add(f"merges, {what}", against, len(files), sum(map(os.path.getsize, files)), len(want), n)

    row("tie_break: bytes", "cs336", [en],
        train_ours(bin_dir, [en], 500, out, 2, "--tie-break", "bytes", "--min-frequency", "1"), reference)
    for name, pattern in (("English", "pretrain/gutenberg/*.txt"), ("Chinese", "pretrain_zh/*传.txt")):
        files = sorted(glob.glob(os.path.join(data, pattern)))
        theirs = merges_of(hf_trained([open(f, newline="").read() for f in files], 8000).to_str())
        for threads in (1, 3):
            row(f"tie_break: hf, {name}, {threads} threads", "tokenizers", files,
                train_ours(bin_dir, files, 8000, out, threads), theirs)


# --- speed ---------------------------------------------------------------------------------------

def corpus(data, megabytes, path):
    """The texts of the data as records of a megabyte at most until there are enough; where they do not
    suffice, again with other words in them, as more text has. At <|endoftext|> a document ends for our
    trainer, and not for Hugging Face's: there are none. Returns the megabytes of text."""
    files = [t for name, t in text_files(data) if name.startswith(("pretrain", "sft", "pref"))]
    rng, size, letters = random.Random(2), 0, "abcdefghijklmnopqrstuvwxyz"
    with open(path, "w") as f:
        for turn in range(1000):
            for text in files:
                if turn:
                    a, b = rng.sample(letters, 2)
                    text = text.replace(a + "e", b + "e").replace(chr(0x4e00 + rng.randrange(3000)), chr(0x4e00 + turn))
                for part in batches(text.replace("<|endoftext|>", "").splitlines(True), 1 << 20):
                    part = "".join(part)
                    f.write(json.dumps({"text": part}) + "\n")
                    size += len(part.encode())
                    if size >= megabytes * 1e6:
                        return size / 1e6


def rounds(n, **what):
    """Medians of n interleaved calls, by name."""
    times = {name: [] for name in what}
    for _ in range(n):
        for name, call in what.items():
            times[name].append(call())
    return {name: statistics.median(t) for name, t in times.items()}


def timed(call, clock=time.perf_counter):
    start = clock()
    call()
    return clock() - start


def children():
    """CPU seconds of the programs called so far."""
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def encoding_speed(bin_dir, data, table, missed):
    tok = os.path.join(data, "tokenizers")
    gpt2 = os.path.join(tok, "gpt2_tokenizer.json")
    hf = tokenizers.Tokenizer.from_file(gpt2)
    peer = tiktoken_encoding("gpt2", os.path.join(tok, "r50k_base.tiktoken"), openai_public.gpt2)
    cores = len(os.sched_getaffinity(0))
    for name in ("pretrain/war_and_peace.txt", "pretrain_zh/水浒传.txt"):
        path = os.path.join(data, name)
        with open(path, newline="") as f:
            text = f.read()
        size = os.path.getsize(path) / 1e6
        lines = text.splitlines(True)
        parts = ["".join(lines[i::cores]) for i in range(cores)]
        for threads in sorted({1, cores}):
            ours = Ours(bin_dir, gpt2, threads)
            if threads == 1:
                t = rounds(7, ours=lambda: ours.seconds("cpu_seconds", path, 4),
                           tiktoken=lambda: timed(lambda: peer.encode_ordinary(text), time.process_time),
                           hf=lambda: timed(lambda: hf.encode(text, add_special_tokens=False), time.process_time))
            else:
                t = rounds(7, ours=lambda: ours.seconds("seconds", path, 4),
                           tiktoken=lambda: timed(lambda: peer.encode_ordinary_batch(parts, num_threads=threads)))
            rate = {k: size / v for k, v in t.items()}
            ratio = {k: f"{rate['ours'] / v:.1f}" for k, v in rate.items()}
            table.add(f"encoding, MB/s{'' if threads > 1 else ' of CPU time'}", os.path.basename(name), threads,
                      *(f"{rate[k]:.1f}" if k in rate else "-" for k in ("ours", "tiktoken", "hf")),
                      ratio["tiktoken"], ratio.get("hf", "-"))
            if threads == 1 and rate["ours"] < 3 * rate["tiktoken"]:
                missed.append(f"encoding {name}: {ratio['tiktoken']} times tiktoken's speed, expected 3")


def training_speed(bin_dir, data, megabytes, table, missed):
    """Once, and by CPU time."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as tmp:
        path, out, theirs = (os.path.join(tmp, name) for name in ("corpus.jsonl", "trained.json", "hf.json"))
        megabytes = corpus(data, megabytes, path)
        ours = Ours(bin_dir, None, cores)
        t = {"ours": timed(lambda: ours.run("tokenizer", "--vocab", "32000", "--out", out, path), children),
             "hf": timed(lambda: hf_trained_in_process(path, theirs, cores), children)}
        with open(out) as f, open(theirs) as g:
            same = merges_of(f.read()) == merges_of(g.read())
    ratio = t["hf"] / t["ours"]
    table.add("training 32k, s of CPU time", f"{megabytes:.0f} MB, {'same' if same else 'OTHER'} merges", cores,
              f"{t['ours']:.1f}", "-", f"{t['hf']:.1f}", "-", f"{ratio:.1f}")
    if ratio < 2:
        missed.append(f"training: {ratio:.1f} times Hugging Face's speed, expected 2")
    if not same:
        missed.append("training: other merges than Hugging Face's")


def speed(bin_dir, data, megabytes):
    table = Table("what", "text", "threads", "ours", "tiktoken", "tokenizers", "ours/tiktoken", "ours/tokenizers")
    missed = []
    encoding_speed(bin_dir, data, table, missed)
    training_speed(bin_dir, data, megabytes, table, missed)
    print()
    table.show()
    for m in missed:
        print("missed:", m)
    return len(missed)


def hf_trained_in_process(path, out, threads):
    """In a process of its own, since the number of threads is read once."""
    code = ("import json, sys; sys.path.insert(0, sys.argv[1]); import tokenizer\n"
            "texts = (json.loads(line)['text'] for line in open(sys.argv[2]))\n"
            "tokenizer.hf_trained(texts, 32000).save(sys.argv[3])")
    subprocess.run([sys.executable, "-c", code, HERE, path, out], check=True,
                   env=dict(os.environ, RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true"))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("bin_dir")
    p.add_argument("--data", default=os.path.join(HERE, "../../../shared/data"))
    p.add_argument("--part", choices=["exact", "speed"])
    p.add_argument("--mb", type=int, default=100)
    a = p.parse_args()
    bad = 0
    if a.part != "speed":
        bad += exactness(a.bin_dir, a.data)
    if a.part != "exact":
        bad += speed(a.bin_dir, a.data, a.mb)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
