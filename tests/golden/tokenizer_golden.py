"""Makes tests/golden/tokenizer_golden.json with Hugging Face `tokenizers`.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/golden/tokenizer_golden.py

In it: a text and the tokenizer.json that BpeTrainer makes of it (tests/tokenizer/test_tokenizer_train.c wants
the same vocabulary and merges), and cases (tests/tokenizer/test_tokenizer_golden.c): a patch to that
tokenizer.json (or another one), texts, the ids of each, and whether all decode to the text again.
"""

import copy
import json
import os

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = """\
The river rose in the night, and by morning the lower road was gone. "We'll wait," said the miller;
"it's risen before, and it'll fall again." Nobody believed him. They'd counted 12 carts on the
bridge, then 7, then none at all, and the water wasn't falling.

\tBy noon the baker had given away 340 loaves.  By evening there were people sleeping in the mill,
in the church, in the school;   the miller's daughter wrote down every name. She wrote: "I've seen
the river higher, but I haven't seen it faster."

Der Fluß stieg über die Brücke. Le café était fermé. 水は低いところへ流れる。 水面很高,水流很急。
naïve façade, coöperate; ½ and ² and Ⅷ; 🙂🙂 -- ... !!! ??? ==== ab ab abc abc bc bc abab aaaa aaa
then the other, rather than the others, gathered there together with their mothers and brothers
"""

VOCAB = 420
SPECIAL = ["<|endoftext|>", "<|pad|>"]

TEXTS = [
    "",
    " ",
    "  ",
    "the river",
    "The Miller's daughter hasn't 1234 loaves, we'll see; it's THEY'D they'd",
    "water\n\n\nwater  \n \t x",
    "aaaaaaaaaaa abababab abcabcabc",
    "a\u00a0b\u3000c\u180ed\u0085e\u200bf\u2028g\u001ch",
    "Fluß 水は 🙂🙂🙂 e\u0301 ①②③ ٣٤",
    "<|endoftext|>the<|pad|> mill<|endoftext|><|endoftext|>",
    "end <|endoftext| > <|pad|>>",
    "zzq zzqzzq zzq. <note>zzq</note>",
    "2024-01-31, 3.14159 and 1000000",
    "trailing space ",
    " leading space",
    "ſ'ſ IT'S it'S",
    "if (x == 10) {\n        return x*x;\n}\n\r\n",
    "McDonald's HTMLParser ǅabc ʰAb a\u0301b ABC'll//\n\n/x 'ſ",
    "the  <mask> mill <mask>\u3000\n<mask>river<mask>",
    "word <w> <w>, x<w> <w>x _<w>_ <w>Ⓐ <w>‍ <w>",
    "xx<y>zz <y>z <|endoftext|>z",
    "a.b..c...d, (e) $5+3=8 ~ «f»",
    "line one\nline two\n\nline four\n",
    "\n\n  ",
    "a\n \n  b \n\n",
    "½ ²x <W>a<w> W\u00c9ATER \u0130\u03a3 \ufb01\u2460\u3000the  end \u05d0\u0301 e=12345 \u0661\u0662, \u30cf\u309a\u3000",
    "x<w> , y <w>   z, together to the otters \u6c34\u3001\u706b\u3002\u30bf\u30fc\u30fb\u30eb",
    "\u6c34\u7684 \u03b1\u03b2 \u3072\u30ab -- \u2019ll \u00abe\u00bb \u2e4f\u166d 7\n 8",
    "Cafe\u0301 o\u0323\u0307<|pad|>\u0301 \u1112\u1161\u11ab \u212b\ufb1d the\u0301 wate\u0301r<w>\u0301u\u0308\u037e xx<\u0338 \u0435\u0308\u0451",
]

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])


TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
KIMI_WORD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def digits(each):
    return {"type": "Digits", "individual_digits": each}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def normalizers(*steps):
    return {"type": "Sequence", "normalizers": [s if isinstance(s, dict) else {"type": s} for s in steps]}


def strip(left, right):
    return {"type": "Strip", "strip_left": left, "strip_right": right}


def replace(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(id, content, special, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special, **flags}


def merge_patch(base, patch):
    for k, v in patch.items():
        if isinstance(v, dict) and isinstance(base.get(k), dict):
            merge_patch(base[k], v)
        else:
            base[k] = v
    return base


def drop(tokenizer, tokens):
    """Takes bytes out of the vocabulary, and the merges and tokens that have them."""
    tokenizer.pop("drop", None)
    model = tokenizer["model"]
    keep = {t: i for t, i in model["vocab"].items() if t in SPECIAL or not any(d in t for d in tokens)}
    model["vocab"] = keep
    model["merges"] = [m for m in model["merges"] if all(x in keep for x in m)]


def main():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    base = json.loads(t.to_str())
    specials = base["added_tokens"]
    whole = {"vocab": {"zzq": VOCAB, "aaaaaaaaaaa": VOCAB + 1, "\u0120river": base["model"]["vocab"].get("\u0120river", VOCAB + 2)}}
    some = specials + [
        added(VOCAB, "<W>", False), added(VOCAB + 1, "<w>", False, normalized=False), added(VOCAB + 2, "\u0451", False),
        added(VOCAB + 3, "water", False, single_word=True), added(VOCAB + 4, "the ", False, lstrip=True),
        added(VOCAB + 5, "\u0301", False)]
    patches = {
        "GPT-2's splitting": {},
        "add_prefix_space": {"pre_tokenizer": byte_level(prefix=True)},
        "no regular expression": {"pre_tokenizer": byte_level(regex=False)},
        "a Split as cl100k has it": {"pre_tokenizer": sequence(split({"Regex": CL100K}), byte_level(regex=False))},
        "the same, as Removed and inverted": {"pre_tokenizer": sequence(split({"Regex": CL100K}, "Removed", True), byte_level(regex=False))},
        "Digits, then GPT-2's": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level())},
        "runs of Digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level())},
        "two Splits, one literal": {"pre_tokenizer": sequence(split({"Regex": r"\p{N}{1,3}"}), split({"String": "e."}), byte_level())},
        "tokens that no merge makes": {"model": whole},
        "the same with ignore_merges": {"model": {**whole, "ignore_merges": True}},
        "added tokens beyond the vocabulary": {"added_tokens": specials + [
            added(VOCAB, "<note>", False), added(VOCAB + 1, "</note>", True), added(VOCAB + 2, "   ", False),
            added(VOCAB + 3, "  ", False), added(VOCAB + 4, "水", False)]},
        "tokens that strip": {"added_tokens": specials + [
            added(VOCAB, "<mask>", True, lstrip=True), added(VOCAB + 1, "<w>", False, rstrip=True)]},
        "a token that strips on both sides": {"added_tokens": specials + [
            added(VOCAB, "<mask>", False, lstrip=True, rstrip=True)]},
        "a whole word": {"added_tokens": specials + [added(VOCAB, "<w>", False, single_word=True)]},
        "normalized tokens after the others": {"added_tokens": specials + [
            added(VOCAB, "xx<", False), added(VOCAB + 1, "<y>", True), added(VOCAB + 2, "zz", False),
            added(VOCAB + 3, "z ", False, normalized=False)]},
        "o200k": {"pre_tokenizer": sequence(split({"Regex": O200K}), byte_level(regex=False))},
        "Qwen 2": {"pre_tokenizer": sequence(split({"Regex": QWEN}), byte_level(regex=False))},
        "sequences within": {"pre_tokenizer": sequence(sequence(split({"Regex": r"\p{N}{1,3}"})), sequence(byte_level()))},
        "Punctuation": {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Isolated"}, byte_level())},
        "Punctuation, contiguous": {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level())},
        "a class without spaces": {"pre_tokenizer": sequence(split({"Regex": r"[\S.]+|[^\S\n]+|[^\S]|[^.\S]x"}), byte_level(regex=False))},
        "lines": {"pre_tokenizer": sequence(split({"Regex": r"^.*$"}), byte_level(regex=False))},
        "hexadecimal, a repeated interval": {"pre_tokenizer": sequence(split({"Regex": r"\h\H|[\h]{1,2}+"}), byte_level(regex=False))},
        "empty matches": {"pre_tokenizer": sequence(split({"Regex": r"(?=[aeiou])|(?<=t)"}), byte_level(regex=False))},
        "NFC": {"normalizer": {"type": "NFC"}},
        "NFC within sequences, with added tokens": {
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFC"}, {"type": "Sequence", "normalizers": []}, {"type": "NFC"}]},
            "added_tokens": specials + [
                added(VOCAB, "\u0451", False), added(VOCAB + 1, "e\u0301", True), added(VOCAB + 2, "<w>", False),
                added(VOCAB + 3, "xx<", False)]},
        "NFC, Qwen 2's splitting": {
            "normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split({"Regex": QWEN}), byte_level(regex=False))},
        "Falcon": {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(),
                                             digits(False), split({"Regex": "[0-9][0-9][0-9]"}))},
        "BLOOM": {"pre_tokenizer": sequence(split({"Regex": r" ?[^(\s|[.,!?…。，、।۔،])]+"}), byte_level(regex=False))},
        "DeepSeek": {"normalizer": normalizers(), "pre_tokenizer": sequence(
            split({"Regex": r"\p{N}{1,3}"}), split({"Regex": "[一-龥\u3040-ゟ゠-ヿ]+"}), split({"Regex": DEEPSEEK}),
            byte_level(regex=False))},
        "Mistral's tekken": {"model": {"ignore_merges": True},
                             "pre_tokenizer": sequence(split({"Regex": TEKKEN}), byte_level(regex=False))},
        "Kimi": {"pre_tokenizer": sequence(split({"Regex": r"[\p{Han}]+|" + KIMI_WORD + r"|\p{N}{1,3}|\s+"}),
                                           byte_level(regex=False))},
        "ByteLevel first": {"pre_tokenizer": sequence(byte_level(regex=False), split({"Regex": "Ġ?[A-Za-z]+|[0-9]"}))},
        "ByteLevel in the middle": {"pre_tokenizer": sequence(
            split({"Regex": r"\n"}), byte_level(prefix=True, regex=False), split({"Regex": r"\w+"}, "MergedWithNext"))},
        "a space before each piece": {"pre_tokenizer": sequence(digits(True), byte_level(prefix=True))},
        "Digits after ByteLevel": {"pre_tokenizer": sequence(byte_level(prefix=True), digits(True))},
        "Removed": {"pre_tokenizer": sequence(split({"Regex": r"\s|[aeiou]"}, "Removed"), byte_level())},
        "Removed, in the alphabet": {"pre_tokenizer": sequence(byte_level(), split({"String": "Ġ"}, "Removed"))},
        "what CLIP keeps": {
            "normalizer": normalizers("NFC", replace(" ", Regex=r"\s+"), "Lowercase"),
            "pre_tokenizer": sequence(split({"Regex": r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"}, "Removed", True),
                                      byte_level())},
        "WhitespaceSplit": {"pre_tokenizer": sequence({"type": "WhitespaceSplit"}, byte_level(prefix=True))},
        "words": {"pre_tokenizer": sequence(split({"Regex": r"\b\w+\b|\W|(?i:THE)"}), byte_level(regex=False))},
        "classes": {"pre_tokenizer": sequence(
            split({"Regex": r"[\w']+"}), split({"Regex": r"[^\W_e]"}), split({"Regex": r"[a-c[x-z]&&[^by]]|[\W&&\S]"}),
            split({"Regex": r"[[:upper:]][[:alpha:]]|[[:digit:]]+|[[:punct:]]|[^[:space:]o]"}), byte_level(regex=False))},
        "words in a class, Removed": {"pre_tokenizer": sequence(split({"Regex": r"[\w']+"}, "Removed"), byte_level(regex=False))},
        "no words in a class, Removed": {"pre_tokenizer": sequence(split({"Regex": r"[\W']+"}, "Removed"), byte_level(regex=False))},
        "scripts, Removed": {"pre_tokenizer": sequence(
            split({"Regex": r"[\p{Han}a]|\p{Katakana}+"}, "Removed"), byte_level(regex=False))},
        "scripts": {"pre_tokenizer": sequence(
            split({"Regex": r"\p{Han}+|\p{Katakana}|\p{Greek}+|\P{^Hebrew}|\u0065|e{,2}q"}), byte_level(regex=False))},
        "empty matches, contiguous": {"pre_tokenizer": sequence(
            split({"Regex": r"(?=[aeiou])|t"}, "Contiguous"), byte_level(regex=False))},
        "empty matches, merged": {"pre_tokenizer": sequence(
            split({"Regex": r"(?=[aeiou])|t"}, "MergedWithPrevious"), byte_level(regex=False))},
        "empty matches, merged with next": {"pre_tokenizer": sequence(
            split({"Regex": r"t|(?=[aeiouh])"}, "MergedWithNext"), byte_level(regex=False))},
        "NFD": {"normalizer": {"type": "NFD"}, "added_tokens": some},
        "NFKC": {"normalizer": {"type": "NFKC"}, "added_tokens": some},
        "NFKD": {"normalizer": {"type": "NFKD"}, "added_tokens": some},
        "Lowercase": {"normalizer": {"type": "Lowercase"}, "added_tokens": some},
        "StripAccents": {"normalizer": normalizers("NFD", "StripAccents"), "added_tokens": some[:-1]},
        "Strip": {"normalizer": strip(True, True), "added_tokens": some},
        "Strip, left": {"normalizer": strip(True, False), "added_tokens": some},
        "Strip, right": {"normalizer": strip(False, True), "added_tokens": some},
        "Replace and Prepend": {"normalizer": normalizers({"type": "Prepend", "prepend": "▁"}, replace("▁", String=" ")),
                                "added_tokens": some},
        "Replace": {"normalizer": replace("e", Regex=r"e\p{M}|[0-9]{2}|^."), "added_tokens": some[:-1]},
        "all of them": {"normalizer": normalizers("NFKD", "Lowercase", strip(True, True), "StripAccents",
                                                  replace("", Regex=r"[,.]+"), {"type": "Prepend", "prepend": " "}),
                        "added_tokens": some[:-1]},
        "a token in what another strips": {"added_tokens": specials + [
            added(VOCAB, "<w>", False, rstrip=True), added(VOCAB + 1, " ,", False), added(VOCAB + 2, "  ", False)]},
        "unknown bytes": {"model": {"unk_token": "<|pad|>"}, "drop": ["w", "Ġ", "â"]},
        "unknown bytes, fused": {"model": {"unk_token": "<|pad|>", "fuse_unk": True}, "drop": ["w", "Ġ", "â", "r", "e"]},
    }
    for behavior in "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext":
        for invert in False, True:
            patches[f"{behavior}, invert {invert}"] = {"pre_tokenizer": sequence(
                split({"Regex": r"[.,]|\n"}, behavior, invert), byte_level(regex=False))}
    cases = []
    for name, patch in patches.items():
        model = merge_patch(copy.deepcopy(base), patch)
        drop(model, patch.get("drop", []))
        patched = Tokenizer.from_str(json.dumps(model))
        ids = [patched.encode(x, add_special_tokens=False).ids for x in TEXTS]
        whole_file = {"tokenizer": model} if "drop" in patch else {"patch": patch}
        lossless = all(patched.decode(i, skip_special_tokens=False) == x for i, x in zip(ids, TEXTS))
        cases.append({"name": name, **whole_file, "lossless": lossless, "ids": ids})
    out = {"text": TEXT, "vocab": VOCAB, "special": SPECIAL, "tokenizer": base, "texts": TEXTS, "cases": cases}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer_golden.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


main()
