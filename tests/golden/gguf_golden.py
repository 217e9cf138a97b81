"""Makes gguf.json and small.gguf: what the `gguf` package (llama.cpp's own, 0.19.0) makes of blocks
of all types that are read, what it writes for those that are written, and a file that it wrote.

    python tests/golden/gguf_golden.py
"""
import json
import os

import gguf
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(1)
T = gguf.GGMLQuantizationType
out = {"unpack": [], "pack": []}


def hexes(x):
    return np.ascontiguousarray(x).view(np.uint8).tobytes().hex()


for name in "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K".split():
    elements, size = gguf.GGML_QUANT_SIZES[T[name]]
    blocks = rng.integers(0, 256, (6, size), dtype=np.uint8)
    for at in {"F16": [0], "BF16": [], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
               "Q6_K": [208]}.get(name, [0]):  # halves that are numbers: scales small and large, of both signs
        halves = np.array([0.0123, -0.37, 6e-8, -3e-5, 1.0, 300.0], dtype=np.float16) * rng.uniform(0.5, 1)
        blocks[:, at:at + 2] = halves.astype(np.float16).view(np.uint8).reshape(6, 2)
    if name == "BF16":
        blocks = rng.normal(size=6).astype(np.float32).view(np.uint32)
        blocks = (blocks >> 16).astype(np.uint16).view(np.uint8).reshape(6, 2)
    values = gguf.quants.dequantize(blocks, T[name])
    out["unpack"].append({"type": name, "blocks": [hexes(b) for b in blocks],
                          "values": [hexes(v.astype(np.float32)) for v in values.reshape(6, elements)]})
for name in "F16 BF16 Q8_0".split():
    elements = gguf.GGML_QUANT_SIZES[T[name]][0]
    values = (rng.normal(size=(64, elements)) * 10.0 ** rng.uniform(-6, 3, (64, 1))).astype(np.float32)
    values[0] = 0
    # halfway between two of each, and what rounds to the smallest and the largest
    if name != "Q8_0":
        values[1:9, 0] = [1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 2**-25 * 1.001, 65519, 65520, 1 + 2**-8, 1 + 3 * 2**-8]
    with np.errstate(over="ignore"):
        blocks = gguf.quants.quantize(values, T[name])
    out["pack"].append({"type": name, "values": [hexes(v) for v in values],
                        "blocks": [hexes(b) for b in blocks.reshape(64, -1)]})
json.dump(out, open(os.path.join(here, "gguf.json"), "w"), indent=0)

w = gguf.GGUFWriter(os.path.join(here, "small.gguf"), "llama")
w.add_uint8("k.u8", 200), w.add_int8("k.i8", -5), w.add_uint16("k.u16", 60000), w.add_int16("k.i16", -300)
w.add_uint32("k.u32", 4000000000), w.add_int32("k.i32", -2000000000), w.add_uint64("k.u64", 1 << 40)
w.add_int64("k.i64", -(1 << 40)), w.add_float32("k.f32", 0.1), w.add_float64("k.f64", 0.1), w.add_bool("k.bool", True)
w.add_string("k.text", "größer ▁"), w.add_array("k.texts", ["a", "", "▁b"]), w.add_array("k.floats", [1.5, -2.0])
w.add_array("k.ints", [1, 2, 3])
x = np.arange(64, dtype=np.float32).reshape(2, 32) / 8
w.add_tensor("two.weight", gguf.quants.quantize(x, T.Q8_0), raw_dtype=T.Q8_0)
w.add_tensor("one.weight", np.arange(5, dtype=np.float32))
w.add_tensor("half.weight", x.astype(np.float16))
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
