"""rhetor-serve's page in a real browser: chat, settings, regeneration, comparison, votes, the loop into
rhetor-label's export. The model is a few steps of configs/tiny: what it says does not matter, that it is
shown, and the same for the same seed, does."""
import json

from web import *

TINY = os.path.join(os.path.dirname(BIN), "configs", "tiny")
MODELS = None


def models():
    """Two small models, made once: [sft, pretrain]."""
    global MODELS
    if MODELS:
        return MODELS
    at = tempfile.mkdtemp()
    os.environ["RUN"] = at
    run("rhetor-data", "synth", "--out", f"{at}/data", "--documents", 200, "--documents-heldout", 10, "--sft", 100,
        "--sft-heldout", 10, "--compare", 20, "--compare-heldout", 10, "--ppo", 10, "--eval", 10)
    run("rhetor-data", "tokenizer", "--vocab", 300, "--out", f"{at}/tokenizer.json", f"{at}/data/documents.jsonl")
    run("rhetor-data", "encode", "--tokenizer", f"{at}/tokenizer.json", "--out", f"{at}/train.h5", f"{at}/data/documents.jsonl")
    run("rhetor-pretrain", f"{TINY}/pretrain.yaml", "train.steps=30", "data.heldout=", "model.context=256")
    run("rhetor-sft", f"{TINY}/sft.yaml", "train.steps=5", "data.mix_ratio=0", "data.mix=", "data.template=hh")
    MODELS = [f"sft={at}/sft", f"base={at}/pretrain"]
    return MODELS


def serve(*more):
    return Server("rhetor-serve", *[w for m in models() for w in ("--model", m)], *more)


def answers(p):
    return [e.text for e in p.all(".turn.assistant pre")]


def finished(p):
    until(lambda: p.text("#send") == "Send", "the end of the answer")


def a_conversation():
    s = serve()
    p = Page()
    p.get(s.url)
    p.see("#say")
    p.all("details summary")[0].click()
    p.see("#set-seed").send_keys("7")
    p.see("#set-max_tokens").clear()
    p.see("#set-max_tokens").send_keys("12")
    p.see("#say").send_keys("Where does Ana live?", Keys.ENTER)
    until(lambda: answers(p), "an answer")
    finished(p)
    first = answers(p)[0]
    assert first
    same = s.post("/v1/chat/completions", {"model": "sft", "seed": 7, "max_tokens": 12,
                                           "messages": [{"role": "user", "content": "Where does Ana live?"}]}, "x")
    assert same["choices"][0]["message"]["content"].split() == first.split(), (same, first)
    p.see(".again").click()
    time.sleep(0.5)
    finished(p)
    assert answers(p) == [first]  # the same seed, the same text
    p.picture("chat-1440")
    p.d.refresh()
    p.see(".turn.assistant")
    assert answers(p) == [first]  # kept in the browser
    p.see("#clear").click()
    assert not p.all(".turn") and not p.errors(), p.errors()
    p.close()
    assert s.kill(signal.SIGTERM) == 0


def hostile_answers():
    """The page shows a model's text as text: the server's reply is replaced by a hostile one."""
    s = serve()
    for width, dark in ((360, True), (1440, False)):
        p = Page(width=width, dark=dark)
        p.get(s.url)
        p.see("#say")
        p.d.execute_script("""
            const text = "<img src=x onerror=\\"document.title='taken'\\"><script>document.title='taken'</script>\\u202e" + "A".repeat(100000);
            window.fetch = async () => new Response('data: ' + JSON.stringify({choices: [{delta: {content: text}, finish_reason: null}]})
                + '\\n\\ndata: [DONE]\\n\\n', {status: 200});""")
        p.see("#say").send_keys("x", Keys.ENTER)
        p.see(".turn.assistant pre", "<script>")
        assert p.d.title == "Rhetor: chat" and not p.all(".turn img") and "U+202E" in p.text(".turn.assistant pre")
        assert not p.wider_than_the_window()
        p.picture(f"chat-hostile-{width}")
        p.close()
    s.kill()


def blind_comparisons():
    with open("s.jsonl", "w") as f:
        f.write(json.dumps({"prompt": "Where?", "completions": ["In Rome.", "I do not know."]}) + "\n")
    run("rhetor-label", "import", "l.db", "s.jsonl")
    token = run("rhetor-label", "token", "l.db", "ann").strip()
    s = serve("--labels", "l.db")
    p = Page()
    p.get(s.url)
    p.see("#token").send_keys(token, Keys.ENTER)
    p.see("#tab-compare").click()
    p.see("#say")
    shown_first = []
    for i, vote in enumerate(("a", "b", "tie", "bad")):
        p.see("#say").send_keys(f"Question {i}", Keys.ENTER)
        p.see("#vote-" + vote)
        assert not p.all("#revealed")
        if i == 0:
            p.picture("compare-1440")
        p.see("#vote-" + vote).click()
        p.see("#vote-kept", "kept")
        shown_first.append(p.text("#revealed").split(",")[0].split()[-1])
        time.sleep(0.1)
    p.see("#tab-table").click()
    p.see("#arena", "sft")
    p.picture("arena-1440")
    a = [json.loads(line) for line in run("rhetor-label", "export", "l.db").splitlines()]
    assert len(a) == 4 and all(sorted(r["models"]) == ["base", "sft"] for r in a), a
    by = {r["prompt"][-1]["content"]: r for r in a}
    assert by["Question 0"]["ranks"] == [1, 2] and by["Question 1"]["ranks"] == [2, 1]
    assert by["Question 2"]["ranks"] == [1, 1] and by["Question 3"]["both_bad"] is True
    assert [by[f"Question {i}"]["models"][0] for i in range(4)] == shown_first
    assert not p.errors(), p.errors()
    p.close()
    s.kill()


def a_client_that_leaves():
    """A place is freed, and the server counts it."""
    s = serve("--slots", 1)
    p = Page()
    p.get(s.url)
    p.see("#say")
    body = json.dumps({"model": "sft", "prompt": "a", "max_tokens": 240, "n": 128, "seed": 1, "temperature": 3}).encode()
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.05)
    until(lambda: 'rhetor_active{model="sft"} 0' in urllib.request.urlopen(s.url + "/metrics").read().decode(), "the place is free")
    text = urllib.request.urlopen(s.url + "/metrics").read().decode()
    assert "rhetor_clients_left_total 1" in text, text
    p.close()
    assert s.kill(signal.SIGTERM) == 0


main([a_conversation, hostile_answers, blind_comparisons, a_client_that_leaves])
