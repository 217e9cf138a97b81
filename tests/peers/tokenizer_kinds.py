"""Kinds of tokenizer.json: our ids beside those of Hugging Face's library.

    python tests/peers/tokenizer_kinds.py RHETOR_BIN_DIR [--data DIR] [--strings 1000] [--seed 1] [--only NAME]

Takes one vocabulary, trained on the data, and gives it the normalizers, pre-tokenizers and added
tokens of published models and of everything else that is read. Compares on the golden strings, on
random strings of what patterns and normalizers treat specially, on code points from everywhere and
on a text; with special tokens looked for and not, and once more as we save the tokenizer. Exit
status 1 if any id differs. Characters that were unassigned in Unicode 14 are left out of the random
strings (docs/FORMATS.md).
"""

import argparse
import copy
import json
import os
import random
import sys
import tempfile
import unicodedata

import tokenizers

import tokenizer as peers

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = WORDS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def o200k(upper=f"[{UPPER}]", lower=f"[{LOWER}]", words=WORDS + "?", numbers=r"\p{N}{1,3}", first=""):
    before = r"[^\r\n\p{L}\p{N}]?"
    return (first + f"{before}{upper}*{lower}+{words}|{before}{upper}+{lower}*{words}|{numbers}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


KIMI = o200k(f"[{UPPER}&&[^\\p{{Han}}]]", f"[{LOWER}&&[^\\p{{Han}}]]", first=r"[\p{Han}]+|")
DEEPSEEK = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
            r"""|\s*[\r\n]+|\s+(?!\S)|\s+""")
PATTERNS = [  # each as the one Split
    r"\b", r"\B|x", r"\W", r"\w+", r"[\w']+", r"[^\w\s]+", r"[\W\n]", r"[^\W_]+", r"[[:alpha:]]+|[[:digit:]]",
    r"[[:upper:]][[:lower:]]+|[[:punct:]]|[[:space:]]+", r"[\p{L}&&[^a-z]]+", r"[^\p{L}&&[^\n]]", r"[a-z[A-Z]0-9]+",
    r"\p{Latin}+|\p{Greek}|\p{^Han}", r"\p{Han}+|\p{Hiragana}+|\p{Katakana}+", r"\u0061|\u00e9", r"(?m:a.b)",
    r"(?i)the|ſ|[k]", r"a{,2}b|x{2}|\d{1,2}+", r"(?<=a)b|c(?!d)|(?<!x)y", r"^\s+|\s+$", r"[]a]|[^]b ]+", r"\h+|[\H]",
    r"[一-龥&&[^的]]", r"[\s&&[^\n]]+", r"\A.|.\z", r"(?=[aeiou ])|t+|(?<=\n)",
    r"a{2,3}+|e{2}?", r"t(?i)he|[[:graph:]]", r"(?i)ß|ﬀ|ss", r"(?>\s+)\S", r"\X", r"(.)\1", r"\s++$|\R"]
BEHAVIORS = ["Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext", "Removed"]


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def digits(each):
    return {"type": "Digits", "individual_digits": each}


def punctuation(behavior="Isolated"):
    return {"type": "Punctuation", "behavior": behavior}


def pre(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def normal(*steps):
    steps = [s if isinstance(s, dict) else {"type": s} for s in steps]
    return {"normalizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}}


def replace(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def strip(left, right):
    return {"type": "Strip", "strip_left": left, "strip_right": right}


def added(first, *tokens):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
    return [{"id": first + i, "content": content, **flags, "normalized": not more.get("special", False), **more}
            for i, (content, more) in enumerate(tokens)]


def kinds(first):
    """Names and what each changes; added tokens have ids from `first` on."""
    last = byte_level(regex=False)
    spaces = added(first, *((" " * n, {}) for n in range(24, 1, -1)), ("|||IP_ADDRESS|||", {}))
    mixed = added(first, ("<mask>", {"lstrip": True, "special": True}), ("<w>", {"rstrip": True}),
                  ("<sw>", {"single_word": True}), ("<Nrm>", {}), ("<raw>", {"normalized": False}), ("Ünï", {}),
                  (" x", {}), ("ﬁ", {"normalized": False}), ("e\u0301!", {}),
                  ("<|Sp|>", {"special": True, "normalized": True}),
                  ("<b>", {"lstrip": True, "rstrip": True, "single_word": True}))
    chat = added(first, ("<|im_start|>", {"special": True}), ("<|im_end|>", {"special": True}),
                 ("<tool>", {"normalized": False}))
    prepend = {"type": "Prepend", "prepend": "▁"}
    yield "GPT-2", {}
    yield "RoBERTa", {"pre_tokenizer": byte_level(True), "added_tokens": added(
        first, ("<s>", {"special": True, "normalized": True}), ("<mask>", {"special": True, "lstrip": True}))}
    yield "GPT-NeoX, OLMo", {**normal("NFC"), "added_tokens": spaces}
    yield "Phi", {"added_tokens": spaces}
    yield "Llama 3", {**pre(split(CL100K), last), "model": {"ignore_merges": True}, "added_tokens": chat}
    yield "cl100k, Removed", pre(split(CL100K, "Removed", True), last)
    yield "Qwen 2", {**normal("NFC"), **pre(split(CL100K.replace("{1,3}", "")), last), "added_tokens": chat}
    yield "o200k", pre(split(o200k()), last)
    yield "Mistral's tekken", {**pre(split(o200k(words="", numbers=r"\p{N}")), last), "model": {"ignore_merges": True}}
    yield "Kimi", pre(split(KIMI), last)
    yield "DeepSeek V3", {**normal({"type": "Sequence", "normalizers": []}), **pre(
        split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), last)}
    yield "DeepSeek Coder", pre(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                                split("[一-龥ࠀ-一가-퟿]+"), digits(True), last)
    yield "DeepSeek LLM", pre(split("[\r\n]"), split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽ]+"),
                              split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"),
                              digits(True), last)
    yield "Falcon", pre(punctuation("Contiguous"), byte_level(), digits(False), split("[0-9][0-9][0-9]"))
    yield "StarCoder, SmolLM", {**pre(digits(True), byte_level()), "added_tokens": chat}
    yield "Command R", {**normal("NFC"), **pre(digits(True), byte_level()), "added_tokens": chat}
    yield "BLOOM", pre(split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), last)
    yield "CLIP without its suffix", {**normal("NFC", replace(" ", Regex=r"\s+"), "Lowercase"), **pre(
        split(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "Removed",
              True), byte_level())}
    for name, steps in (("NFC", ["NFC"]), ("NFD", ["NFD"]), ("NFKC", ["NFKC"]), ("NFKD", ["NFKD"]),
                        ("Lowercase", ["Lowercase"]), ("StripAccents", ["StripAccents"]), ("Strip", [strip(True, True)]),
                        ("Strip, left", [strip(True, False)]), ("Strip, right", [strip(False, True)]),
                        ("Prepend", [prepend]), ("Replace, a string", [replace("▁", String=" ")]),
                        ("Replace", [replace(" ", Regex=r"\s+|\p{M}|[0-9]{2}")]),
                        ("Replace, by nothing", [replace("", Regex=r"^.|\W")]),
                        ("as BERT", ["NFD", "Lowercase", "StripAccents", strip(True, True)]),
                        ("as SentencePiece", [prepend, replace("▁", String=" "), "NFKC"]),
                        ("NFKC, Lowercase, NFKD", ["NFKC", "Lowercase", "NFKD"])):
        yield "normalizer: " + name, {**normal(*steps), "added_tokens": mixed}
    yield "added tokens of all kinds", {"added_tokens": mixed}
    for name, steps in (("first, in letters", [last, split("Ġ?[A-Za-z]+|[0-9]|.")]),
                        ("first, prefix", [byte_level(True), digits(False)]),
                        ("middle, prefix", [split(r"\n"), byte_level(True, False), split(r"\w+|\p{N}")]),
                        ("last, prefix", [digits(True), byte_level(True)]),
                        ("last, prefix, no pattern", [digits(False), byte_level(True, False)]),
                        ("then Punctuation", [byte_level(), punctuation("MergedWithPrevious")]),
                        ("then Removed", [byte_level(), split("[Ġ¡-¬]", "Removed")]),
                        ("then a string", [punctuation("Contiguous"), byte_level(), digits(True),
                                           split("Ġ", "MergedWithNext", kind="String")]),
                        ("after WhitespaceSplit", [{"type": "WhitespaceSplit"}, digits(True), byte_level(True)])):
        yield "ByteLevel " + name, pre(*steps)
    for behavior in BEHAVIORS:
        for invert in False, True:
            for pattern in r"\w+", r"(?=[aeiou ])|t+|(?<=\n)":
                yield f"{behavior}{', inverted' if invert else ''}: {pattern}", pre(split(pattern, behavior, invert), last)
    for pattern in PATTERNS:
        yield "pattern: " + pattern, pre(split(pattern), last)


# --- texts -----------------------------------------------------------------------------------------

PARTS = """a Z word Word WORD ' ’ 's 'S 'LL ’ll 'ſ 1 234 5678 . !? / // - _ é ǅ ʰ 水 低いところ ー 🙂 👩‍💻 👨‍👩‍👧 🇩🇪 ² Ⅷ ٣ ½ ﬁ ﬀ ß İ Σ ς K Å ﷺ ㌔
한국 שלום مرحبا <|endoftext|> <mask> <w> <sw> <Nrm> <nrm> <raw> <RAW> ünï Ünï é! <|Sp|> <|sp|> <b> <s> { } == 的 一二三 |||IP_ADDRESS|||
<|im_start|> <tool> the and ing 0000000 ３４ _x_ aé1 — … 。 ، $ + ^ ` ¡ ¬ Ġ ▁""".split() + [
    " ", "  ", "     ", "\n", "\r\n", "\n\n\n", "\t", " x", "e\u0301", "e\u0301!", "U\u0308nï", "\u0301", "\u00a0", "\u3000",
    "\u2028", "\x85", "\u200b", "\u180e", "\u1112\u1161\u11ab", "\u202e", "\x01", "\x1f", "\x7f", "ば\u3099", "\u0323\u0307",
    "\u0344", "\u0f73", "\u0600"]
PLACES = [(1, 0x100), (0x100, 0x800), (0x800, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000),
          (0x20000, 0x30000), (0xE0000, 0xE0200), (0x100, 0x110000)]


def strings(n, seed):
    rng = random.Random(seed)

    def one():
        while True:
            c = chr(rng.randrange(*rng.choice(PLACES)))
            if unicodedata.category(c) not in ("Cn", "Cs"):
                return c
    for i in range(n):
        yield "".join(one() if i % 4 == 0 and rng.random() < .6 else rng.choice(PARTS) for _ in range(rng.randint(1, 14)))


def ids_of(hf, texts):
    return [e.ids for e in hf.encode_batch(texts, add_special_tokens=False)]


def changed(base, patch):
    out = copy.deepcopy(base)
    out["model"].update(patch.get("model", {}))
    out.update({k: v for k, v in patch.items() if k not in ("model", "added_tokens")})
    out["added_tokens"] += patch.get("added_tokens", [])
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("bin_dir")
    p.add_argument("--data", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/data"))
    p.add_argument("--strings", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", default="")
    a = p.parse_args()
    read = [open(os.path.join(a.data, f), newline="").read() for f in
            ("pretrain/wikitext2.valid.txt", "pretrain_zh/三国演义.txt", "cs336/tinystories_sample.txt")]
    base = json.loads(peers.hf_trained([t[:400000] for t in read], 4000).to_str())
    texts = [g["text"] for g in peers.records(a.data, "gpt2_encode.jsonl")]
    texts += [g["replaced_text"] for g in peers.records(a.data, "gpt2_invalid_utf8.jsonl")]
    texts += list(strings(a.strings, a.seed)) + [t[-20000:] for t in read]
    table = peers.Table("what", "against", "texts", "bytes", "ids", "differences")
    with tempfile.TemporaryDirectory() as tmp:
        path, saved = os.path.join(tmp, "t.json"), os.path.join(tmp, "saved.json")
        for name, patch in kinds(len(base["model"]["vocab"])):
            if a.only not in name:
                continue
            with open(path, "w") as f:
                json.dump(changed(base, patch), f)
            hf, ours = tokenizers.Tokenizer.from_file(path), peers.Ours(a.bin_dir, path)
            table.compare(name, "tokenizers", texts, lambda some: ours.encode(some, specials=True),
                          lambda some: ids_of(hf, some))
            hf.encode_special_tokens = True  # that is, as any text
            table.compare(name + ", user's text", "tokenizers", texts, ours.encode, lambda some: ids_of(hf, some))
            ours.run("tokenizer", "--from", path, "--out", saved)
            again = tokenizers.Tokenizer.from_file(saved)
            table.compare(name + ", as we save it", "tokenizers", texts, lambda some: ours.encode(some, specials=True),
                          lambda some: ids_of(again, some))
    table.show()
    print(f"{len(table.rows) - 1} rows, {table.bad} differences")
    sys.exit(table.bad > 0)


if __name__ == "__main__":
    main()
