"""Makes tests/golden/forms.json with Hugging Face `tokenizers`, whose tables are Unicode 9's.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/golden/forms_golden.py

In it: pairs of a text and its NFC: each character that NFC changes, alone and between others, and
random strings of what composes, is reordered or only looks like it. And of each normalizer that
goes by tables the CRC-32 of what it makes of every code point, in blocks of 4096 (block_text).
"""

import json
import os
import random
import sys
import unicodedata
import zlib

from tokenizers import normalizers

BLOCK = 4096
# What Rust's tables (Unicode 17) have as capitals and utf8proc's (15) have not.
NEW_CAPITALS = {0x1C89, 0xA7CB, 0xA7CC, 0xA7CE, 0xA7D2, 0xA7D4, 0xA7DA, 0xA7DC, *range(0x10D50, 0x10D66),
                *range(0x16EA0, 0x16EB9)}


def nfc(s):
    return normalizers.NFC().normalize_str(s)


def block_text(begin):
    """Every character between marks, before letters and at the end of words."""
    return "".join(f"{c}\u0301\u0323a{c}e \u1100{c}" for c in map(chr, range(max(begin, 1), begin + BLOCK))
                   if not 0xD800 <= ord(c) < 0xE000 and ord(c) not in NEW_CAPITALS)


def main():
    rng = random.Random(3)
    every = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    changed = [c for c in every if nfc(c) != c]
    marks = [c for c in every if unicodedata.combining(c)]
    composed = [c for c in every if unicodedata.normalize("NFD", c) != c and nfc(c) == c]
    parts = [x for c in composed if not "가" <= c <= "힣" for x in unicodedata.normalize("NFD", c)]
    hangul = [x for _ in range(500) for x in unicodedata.normalize("NFD", chr(rng.randrange(0xAC00, 0xD7A4)))]
    common = "aeiounAEs xyz.,\n 12水火山가각ёйéüの"
    texts = changed[:]
    for i in range(0, len(changed), 8):
        texts.append("a" + "\u0301x".join(changed[i:i + 8]) + "\u0323")
    for _ in range(500):
        pools = rng.sample([changed, marks, composed, parts, hangul, common, common, every], rng.randint(1, 4))
        texts.append("".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 12))))
    crc = {name: [zlib.crc32(getattr(normalizers, name)().normalize_str(block_text(b)).encode())
                  for b in range(0, sys.maxunicode + 1, BLOCK)]
           for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forms.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"nfc": [[t, nfc(t)] for t in texts], "block": BLOCK, "crc": crc}, f, ensure_ascii=True,
                  separators=(",", ":"))
        f.write("\n")


main()
