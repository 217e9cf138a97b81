"""Writes events.tfevents and events_resumed.tfevents, the golden files of tests/train/test_events.c,
with TensorBoard's own record writer and protocol buffers. Remake: pip install tensorboard;
python3 tests/golden/events_golden.py"""
import os

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

SECONDS = 1.5  # wall_time, which the test leaves out


def scalar(tag, value):
    return Summary.Value(tag=tag, simple_value=value)


def text(tag, shown):
    return Summary.Value(
        tag=tag,
        tensor=TensorProto(dtype=7, tensor_shape=TensorShapeProto(), string_val=[shown.encode()]),
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")))


events = [
    Event(wall_time=SECONDS, step=0, file_version="brain.Event:2"),
    Event(wall_time=SECONDS, step=1,
          summary=Summary(value=[scalar("loss", 2.5), scalar("lr", 3e-4), scalar("nan", float("nan"))])),
    Event(wall_time=SECONDS, step=300,
          summary=Summary(value=[scalar("loss", -1e30),
                                 text("samples", "    a\n    \n    b\u00e9" + "x" * 200)])),
]
resumed = [
    events[0],
    Event(wall_time=SECONDS, step=2, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=SECONDS, step=2, summary=Summary(value=[scalar("loss", 1.5)])),
]
for name, content in ("events.tfevents", events), ("events_resumed.tfevents", resumed):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), "wb") as f:
        writer = RecordWriter(f)
        for e in content:
            data = e.SerializeToString()
            if e.step == 0:  # proto3 leaves a zero out; we write it
                data = data[:9] + b"\x10\x00" + data[9:]
                assert Event.FromString(data) == e
            writer.write(data)
