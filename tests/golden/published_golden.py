"""Makes tests/golden/published.json: what tiktoken's published encodings make of some texts, with as
much of their vocabularies as these texts need.

    python tests/golden/published_golden.py SHARED_DATA_DIR

The ids are those of golden/gpt2_encode.jsonl (made with tiktoken). A token comes with those that it
is merged of, so that merging goes as with the whole vocabulary: of the merges that can be done next
the best one is always there.
"""

import base64
import json
import os
import sys

FIELDS = {"gpt2": ("r50k_base", "ids"), "cl100k": ("cl100k_base", "cl100k"), "o200k": ("o200k_base", "o200k")}


def parts(token, rank):
    """The tokens that merging goes through on the way to `token`."""
    now = [token[i:i + 1] for i in range(len(token))]
    while len(now) > 1:
        best = min(range(len(now) - 1), key=lambda i: rank.get(now[i] + now[i + 1], 1 << 30))
        now[best:best + 2] = [now[best] + now[best + 1]]
        yield now[best]


def main():
    data = sys.argv[1]
    with open(os.path.join(data, "golden/gpt2_encode.jsonl")) as f:
        records = [json.loads(line) for line in f]
    taken = {}
    for r in records:
        if len(r["utf8_hex"]) <= 160:
            taken.setdefault(r["cat"], []).append(r)
    records = [r for some in taken.values() for r in some[:5]]
    out = {"texts": [{k: r[k] for k in ("utf8_hex", "ids", "cl100k", "o200k", "ids_allow_special") if k in r}
                     for r in records], "ranks": {}}
    for name, (file, field) in FIELDS.items():
        with open(os.path.join(data, f"tokenizers/{file}.tiktoken"), "rb") as f:
            rank = {base64.b64decode(t): int(r) for t, r in map(bytes.split, f)}
        token = {r: t for t, r in rank.items()}
        need = {bytes([i]) for i in range(256)}
        for r in records:
            for i in r[field]:
                need.update(parts(token[i], rank))
        out["ranks"][name] = " ".join(f"{base64.b64encode(t).decode()} {rank[t]}" for t in sorted(need, key=rank.get))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "published.json")
    with open(path, "w") as f:
        f.write('{"texts": [\n' + ",\n".join(json.dumps(t, separators=(",", ":")) for t in out["texts"]))
        f.write('],\n"ranks": ' + json.dumps(out["ranks"], indent=0) + "}")
        f.write("\n")
    print(len(records), "texts,", {k: len(v.split()) // 2 for k, v in out["ranks"].items()}, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
