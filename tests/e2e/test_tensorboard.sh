#!/bin/bash
# TensorBoard reads what a run writes: every step once, with the values of metrics.jsonl, also where
# the run was killed and went on. Needs Python's tensorboard
# (PYTHON: an interpreter that has it), else it is skipped.
. "$(dirname "$0")/lib.sh"
python=$(python_with tensorboard)

i=0
until [ $i = 300 ]; do
    echo "{\"text\":\"the cat number $i sat on mat $((i * 7 % 50)) with the dog and was glad of it\"}"
    i=$((i + 1))
done >cats.jsonl
must "$bin/rhetor-data" tokenizer --vocab 280 --out tokenizer.json cats.jsonl
must "$bin/rhetor-data" encode --tokenizer tokenizer.json --heldout 0.1 --out train.h5 \
    --heldout-out heldout.h5 cats.jsonl
run() { RUN=. "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" save.every=5 train.steps=23 eval.every=10 "$@"; }
must run run.dir=straight
RHETOR_FAULT=ckpt_save.begin:0:3:kill run run.dir=killed >kill.out 2>&1 &
wait $! 2>/dev/null
[ $? = 137 ] || fail "the run was not killed: $(cat kill.out)"
must run run.dir=killed
cmp -s straight/metrics.jsonl killed/metrics.jsonl || fail "the metrics of the two runs differ"
must run run.dir=none run.tensorboard=false
[ "$(ls straight | grep -c tfevents)" = 1 ] || fail "straight: expected one event file: $(ls straight)"
[ "$(ls killed | grep -c tfevents)" = 2 ] || fail "killed: expected an event file of each part: $(ls killed)"
! ls none | grep tfevents || fail "run.tensorboard=false wrote events"

[ "$python" ] || {
    echo "no Python with tensorboard here"
    exit 77
}
cat >read.py <<'P'
import json, struct, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

want = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
have = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
have.Reload()
single = lambda x: struct.unpack("f", struct.pack("f", x))[0]
tags = set(have.Tags()["scalars"])
for tag in sorted({k for w in want for k in w} - {"step"}):
    a = [(w["step"], single(w[tag])) for w in want if tag in w]
    b = [(e.step, e.value) for e in have.Scalars(tag)]
    assert len(a) == len(b) and all(x[0] == y[0] and abs(x[1] - y[1]) <= 1e-6 * abs(x[1])
                                    for x, y in zip(a, b)), (tag, a, b)
    tags.remove(tag)
assert tags == {"perf/step_s", "perf/tokens_per_s", "data/wait_s"}, tags
texts = have.Tensors("config")
assert len(texts) == 1 and b"model:" in tensor_util.make_ndarray(texts[0].tensor_proto).item()
assert have.summary_metadata["config"].plugin_data.plugin_name == "text"
print(len(want), "steps")
P
for dir in straight killed; do expect 0 "23 steps" -- "$python" read.py $dir; done
