#!/bin/bash
# test_python.sh: the lines of docs/FORMATS.md with which Python reads our files, as they stand there.
# Needs python3-h5py (or PYTHON: an interpreter that has h5py).
. "$(dirname "$0")/lib.sh"
python=$(python_with h5py)
[ "$python" ] || {
    echo "no Python with h5py here (python3-h5py)"
    exit 77
}
must make -s -C "$root" plugin
ln -s "$root/build" build

# a checkpoint and a corpus, compressed
for i in $(seq 300); do echo "{\"text\":\"story $i of the cat and the dog\"}"; done >stories.jsonl
must "$bin/rhetor-data" tokenizer --vocab 300 --out tok.json stories.jsonl
must "$bin/rhetor-data" encode --tokenizer tok.json --out corpus.h5 stories.jsonl
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=run from.tokenizer=tok.json data.train=corpus.h5 \
    data.heldout= train.steps=1 save.compression=zstd
must "$bin/rhetor-ckpt" export run model
ln -s run/checkpoints/step_00000001.h5 checkpoint.h5

awk '/^```python$/ { on = 1; next } /^```$/ { on = 0 } on' "$root/docs/FORMATS.md" >read.py
[ "$(wc -l <read.py)" -ge 10 ] || fail "docs/FORMATS.md has no python lines"
# What they read, against the exported safetensors file and against the encoder.
head -n 1 stories.jsonl >first.jsonl
"$bin/rhetor-data" encode --ids --tokenizer tok.json first.jsonl >ids.jsonl || fail "encode --ids"
cat >>read.py <<'END'
import struct
raw = open("model/model.safetensors", "rb").read()
size, = struct.unpack("<Q", raw[:8])
t = json.loads(raw[8:8 + size])["transformer.h.0.attn.c_attn.weight"]
rows, cols = t["shape"]
at = 8 + size + t["data_offsets"][0]
theirs = [struct.unpack_from(f"<{cols}f", raw, at + 4 * cols * i) for i in range(rows)]
assert weight.shape == (3 * model["width"], model["width"]) == (cols, rows)
assert weight.T.tolist() == [list(r) for r in theirs]
assert tokens.tolist() == json.loads(open("ids.jsonl").read())["ids"] + [0]  # end of text
assert tokenizer == json.load(open("tok.json"))
END
must "$python" read.py
exit 0
