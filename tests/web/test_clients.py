"""Clients of rhetor-serve that nobody here wrote: the official openai package, EleutherAI's lm-evaluation-harness. They
run in a Python that has them (PYTHON, or those in the path); without one the test is skipped. Then a short load."""
import math
import sys

from load import load
from models import models, serve
from web import *


def python_with(module):
    for python in filter(None, (os.environ.get("PYTHON"), shutil.which("python3"), sys.executable)):
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
            return python
    raise Skipped(f"no Python here has {module} (PYTHON=...)")


def client(module, code, *args):
    """Runs code in such a Python; the JSON that it prints."""
    done = subprocess.run([python_with(module), "-c", code, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OPENAI = """
import json, sys, openai
c = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none")
ask = dict(model="sft", messages=[{"role": "user", "content": "Where does Ana live?"}], seed=3, max_tokens=12)
whole = c.chat.completions.create(**ask, logprobs=True, top_logprobs=2, n=2)
stream = c.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
pieces = [e for e in stream]
old = c.completions.create(model="sft", prompt=["Ana lives in", "Ben"], seed=1, max_tokens=5, logprobs=2, echo=True)
try:
    c.completions.create(model="gpt-4", prompt="x")
    error = "none"
except openai.BadRequestError as e:
    error = e.body["message"]
print(json.dumps({
    "models": [m.id for m in c.models.list()], "error": error, "usage": pieces[-1].usage.completion_tokens,
    "whole": [x.message.content for x in whole.choices], "logprobs": len(whole.choices[0].logprobs.content),
    "streamed": "".join(e.choices[0].delta.content or "" for e in pieces if e.choices),
    "old": [x.text for x in old.choices], "tops": len(old.choices[0].logprobs.top_logprobs[-1])}))
"""


def the_openai_client():
    s = serve()
    try:
        a = client("openai", OPENAI, s.url)
    finally:
        s.kill()
    assert a["models"] == ["sft", "base"] and "gpt-4" in a["error"], a
    assert a["streamed"] == a["whole"][0] and a["usage"] == a["logprobs"], a
    assert a["old"][0].startswith("Ana lives in") and a["old"][1].startswith("Ben") and a["tops"] == 2, a


HARNESS = """
import json, sys, lm_eval
from lm_eval.tasks import TaskManager
url, tokenizer, data = sys.argv[1:]
task = {"task": "where", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": data}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}]}
r = lm_eval.simple_evaluate(model="local-completions", tasks=[task], log_samples=True, bootstrap_iters=0,
    model_args=f"model=sft,base_url={url}/v1/completions,tokenizer={tokenizer},tokenizer_backend=huggingface,num_concurrent=4")
print(json.dumps({"acc": r["results"]["where"]["acc,none"],
                  "scores": [[c[0][0] for c in x["resps"]] for x in sorted(r["samples"]["where"], key=lambda x: x["doc_id"])]}))
"""


def the_evaluation_harness():
    """A multiple-choice task; its log-likelihoods are rhetor-eval's."""
    python_with("lm_eval, tenacity, aiohttp")  # lm_eval[api]
    tasks = [{"question": f"{name} lives in", "choices": ["Rome.", "Paris, I think.", "the house by the sea."], "answer": i % 3}
             for i, name in enumerate(("Ana", "Ben", "Cleo", "Dan"))]
    with open("where.jsonl", "w") as f:
        f.writelines(json.dumps(t) + "\n" for t in tasks)
    run("rhetor-ckpt", "export", dict(m.split("=") for m in models())["sft"], "hf")
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    s = serve()
    try:
        got = client("lm_eval, tenacity, aiohttp", HARNESS, s.url, os.path.abspath("hf"), os.path.abspath("where.jsonl"))
        for t, scores in zip(tasks, got["scores"]):
            prompt = s.post("/tokenize", {"prompt": t["question"]}, "x")["count"]
            with open("texts.jsonl", "w") as f:
                f.writelines(json.dumps({"text": t["question"] + " " + c}) + "\n" for c in t["choices"])
            own = [json.loads(line)["logprobs"] for line in
                   run("rhetor-eval", "logprobs", "-m", dict(m.split("=") for m in models())["sft"], "texts.jsonl").splitlines()]
            own = [sum(x for x in o if x is not None) for o in (o[prompt - 1:] for o in own)]
            assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(scores, own)), (scores, own)
        right = sum(x.index(max(x)) == t["answer"] for x, t in zip(got["scores"], tasks))
        assert got["acc"] == right / len(tasks), got
    finally:
        s.kill()


def many_at_once():
    """Streams without an error, overload refused politely; tests/web/load.py alone measures more."""
    s = serve("--slots", 4, "--queue", 8)
    x = load(s.port, clients=24, requests=60, max_tokens=16, pid=s.process.pid)
    assert not x.errors and x.done + x.refused == 60 and x.refused, (x.done, x.refused, x.errors[:3])
    assert s.kill(signal.SIGTERM) == 0


main([the_openai_client, the_evaluation_harness, many_at_once])
