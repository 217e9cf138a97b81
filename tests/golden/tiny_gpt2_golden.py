"""Makes tests/golden/tiny_gpt2.safetensors of ../shared/data/golden/model (made with transformers' GPT-2 and
PyTorch): the weights and the batch, without the gradients and the parameters after each step, which are large.
What remains is checked by the losses and norms in tests/train/test_golden_gpt2.c.

    python3 tests/golden/tiny_gpt2_golden.py [FOLDER]
"""
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    return {k: (v, data[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items() if k != "__metadata__"}


folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../../shared/data/golden/model")
tensors = read(os.path.join(folder, "tiny_gpt2_init.safetensors"))
golden = read(os.path.join(folder, "tiny_gpt2_golden_f32.safetensors"))
tensors.update({k: golden[k] for k in ("input_ids", "targets")})
header, data = {"__metadata__": {"format": "pt"}}, b""
for name, (info, content) in sorted(tensors.items(), key=lambda t: (t[1][0]["dtype"] != "I64", t[0])):
    header[name] = dict(info, data_offsets=[len(data), len(data) + len(content)])
    data += content
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(HERE, "tiny_gpt2.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
