"""Makes tests/golden/nfc.json with Python's unicodedata (Unicode 14 in Python 3.11).

    python3 tests/golden/nfc_golden.py

In it: pairs of a text and its NFC: each character that NFC changes, alone and between others, and
random strings of what composes, is reordered or only looks like it.
"""

import json
import os
import random
import sys
import unicodedata


def nfc(s):
    return unicodedata.normalize("NFC", s)


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
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nfc.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump([[t, nfc(t)] for t in texts], f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


main()
