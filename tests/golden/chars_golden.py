"""Makes tokenizer_chars.json: SentencePiece's BPE with byte fallback, trained here on a small text, as the
tokenizer.json forms that Llama 2, TinyLlama and newer transformers write, with the ids of Hugging
Face's library (tokenizers 0.23.3) and sentencepiece's own (0.2.3); and the metadata of GGUF files for
it and for a byte-level tokenizer under every name of "tokenizer.ggml.pre".

    python tests/golden/chars_golden.py
"""
import io
import json
import os
import re

import sentencepiece as spm
import tokenizers

here = os.path.dirname(os.path.abspath(__file__))
golden = json.load(open(os.path.join(here, "tokenizer_golden.json")))
texts = golden["texts"][:70] + [
    "", " ", "  a", "a  b", "▁", "▁▁x", " ▁ y", "\n", "\n\n  hello", "hello <s> world</s>", "<s>", "a<unk>b", "</s> x",
    "The miller said that the river was high.", "水火土", "<0x41>", "e\u0301!", "\U0001f600 smile", "tab\tand\u00a0space",
    "the the  the   the    the", "<0x0A>\n", "x<s>  y", "İstanbul", "naïve café"]
corpus = " ".join(golden["texts"]) + """
The miller said that the river was high, and the children of the village played near the old mill. There was a
king who had three sons; the eldest was strong, the second was clever, and the youngest was kind to everyone. They
went into the forest together, where they found a house with a hundred windows and no door. 水 火 土 café naïve
""" * 3
model = io.BytesIO()
spm.SentencePieceTrainer.train(
    sentence_iterator=iter(re.split(r"(?<=[.;,])\s", corpus)), model_writer=model, model_type="bpe", vocab_size=700,
    byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
    split_digits=True, allow_whitespace_only_pieces=True, add_dummy_prefix=True, minloglevel=2)
sp = spm.SentencePieceProcessor(model_proto=model.getvalue())
n = sp.get_piece_size()
pieces, scores = [sp.id_to_piece(i) for i in range(n)], [sp.get_score(i) for i in range(n)]
types = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(n)]
vocab = {p: i for i, p in enumerate(pieces)}


def merges():  # transformers' generate_merges
    out = []
    for i, p in enumerate(pieces):
        local = []
        for k in range(1, len(p)):
            a, b = vocab.get(p[:k]), vocab.get(p[k:])
            if types[i] == 1 and a is not None and b is not None and types[a] == 1 and types[b] == 1:
                local.append((a, b, scores[i]))
        out += sorted(local)
    out.sort(key=lambda m: (m[2], len(pieces[m[0]]), len(pieces[m[1]])), reverse=True)
    return [[pieces[a], pieces[b]] for a, b, _ in out]


def added(normalized=False):
    return [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": normalized, "special": True} for i in range(3)]


replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
back = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(), "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Sequence", "decoders": back + [strip]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": merges()}}
prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


cases = []
for name, patch in (
        ("Llama 2, TinyLlama", {"normalizer": prepend}),
        ("Llama 2, its tokens normalized", {"normalizer": prepend, "added_tokens": added(True)}),
        ("Gemma", {"normalizer": replace, "decoder": {"type": "Sequence", "decoders": back},
                   "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                     "invert": False}}),
        ("Metaspace, first", {"pre_tokenizer": metaspace("first", False)}),
        ("Metaspace, always", {"pre_tokenizer": metaspace("always", False)}),
        ("Metaspace, never, split", {"pre_tokenizer": metaspace("never", True),
                                     "decoder": {"type": "Sequence", "decoders": [
                                         {"type": "ByteFallback"}, {**metaspace("never", True)}]}}),
        ("Metaspace, always, split", {"pre_tokenizer": metaspace("always", True)}),
        ("ignore_merges", {"normalizer": prepend, "model": {**base["model"], "ignore_merges": True}}),
        ("NFKC first", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}] + prepend["normalizers"]}})):
    t = tokenizers.Tokenizer.from_str(json.dumps({**base, **patch}))
    small = {**patch, "model": {"ignore_merges": True}} if "model" in patch else patch
    ids = [t.encode(x, add_special_tokens=False).ids for x in texts]
    cases.append({"name": name, "patch": small, "ids": ids,
                  "decoded": [t.decode(i, skip_special_tokens=False) for i in ids]})

# GGUF: SentencePiece's own ids, which know no special tokens in text.
k = "tokenizer.ggml."
gguf = [{"name": "llama", "specials": False,
         "meta": {k + "model": "llama", k + "tokens": pieces, k + "scores": scores, k + "token_type": types,
                  k + "bos_token_id": 1, k + "eos_token_id": 2, k + "add_space_prefix": True},
         "ids": [sp.encode(x) for x in texts]}]
# Byte-level: the golden tokenizer under each name, beside Hugging Face's steps for it.
W = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
R = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
byte_level = lambda regex: {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}
steps = lambda *s: {"type": "Sequence", "pretokenizers": list(s)}
split = lambda p: {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
digits, nfc = {"type": "Digits", "individual_digits": True}, {"type": "NFC"}
tk = golden["tokenizer"]
order = sorted(tk["model"]["vocab"].items(), key=lambda x: x[1])
specials = {a["content"] for a in tk["added_tokens"]}
for pre, normalizer, pretok, whole in (
        ("gpt-2", None, byte_level(True), False), ("olmo", nfc, byte_level(True), False),
        ("smollm", None, steps(digits, byte_level(True)), False), ("command-r", nfc, steps(digits, byte_level(True)), False),
        ("llama-bpe", None, steps(split(W + r"\p{N}{1,3}" + R), byte_level(False)), True),
        ("dbrx", None, steps(split(W + r"\p{N}{1,3}" + R), byte_level(False)), False),
        ("qwen2", nfc, steps(split(W + r"\p{N}" + R), byte_level(False)), False),
        ("stablelm2", None, steps(split(W + r"\p{N}" + R), byte_level(False)), False)):
    a = [{"id": t, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
          "special": True} for c, t in order if c in specials]
    m = {**tk["model"], "ignore_merges": whole}
    t = tokenizers.Tokenizer.from_str(json.dumps({**tk, "normalizer": normalizer, "pre_tokenizer": pretok,
                                                  "added_tokens": a, "model": m}))
    gguf.append({"name": pre, "specials": True,
                 "ids": [t.encode(x, add_special_tokens=False).ids for x in texts]})
assert [i for _, i in order] == list(range(len(order)))
bytes_meta = {k + "model": "gpt2", k + "tokens": [c for c, _ in order],
              k + "token_type": [3 if c in specials else 1 for c, _ in order],
              k + "merges": [x if isinstance(x, str) else " ".join(x) for x in tk["model"]["merges"]],
              k + "eos_token_id": tk["model"]["vocab"][sorted(specials)[0]]}
json.dump({"texts": texts, "tokenizer": base, "cases": cases, "gguf": gguf, "bytes": bytes_meta},
          open(os.path.join(here, "tokenizer_chars.json"), "w"), ensure_ascii=False)
same = sum(a == b for a, b in zip(cases[0]["ids"], gguf[0]["ids"]))
print(len(texts), "texts; equal ids by tokenizers and sentencepiece:", same)
