"""rhetor-serve's page in a real browser: chat, settings, regeneration, comparison, votes, the loop into
rhetor-label's export. The model is a few steps of configs/tiny: what it says does not matter, that it is
shown, and the same for the same seed, does."""
import json

from models import serve
from web import *

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
        until(lambda: "<script>" in "".join(p.contents(".turn.assistant pre")), "the answer")
        assert p.d.title == "Rhetor: chat" and not p.all(".turn img") and "U+202E" in p.contents(".turn.assistant pre")[0]
        assert not p.wider_than_the_window()
        p.picture(f"chat-hostile-{width}")
        p.close()
    s.kill()


def labeller_enters():
    """A server with a labelling database, the page of a labeller who is in, and their token."""
    with open("s.jsonl", "w") as f:
        f.write(json.dumps({"prompt": "Where?", "completions": ["In Rome.", "I do not know."]}) + "\n")
    run("rhetor-label", "import", "l.db", "s.jsonl")
    token = run("rhetor-label", "token", "l.db", "ann").strip()
    s = serve("--labels", "l.db")
    p = Page()
    p.get(s.url)
    p.see("#token").send_keys(token, Keys.ENTER)
    return s, p, token


def blind_comparisons():
    s, p, token = labeller_enters()
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


def answers_ranked_in_place():
    """Four answers to a prompt, ranked where they stand; then the page in Chinese, narrow, light and dark."""
    s, p, token = labeller_enters()
    p.see("#tab-rank").click()
    p.see("#say").send_keys("Where does Ana live?", Keys.ENTER)
    until(lambda: len(p.all("#samples article")) == 4, "four answers")
    finished(p)
    for answer, rank in zip(p.all("#samples article"), (2, 1, 4, 4)):
        assert not p.see("#keep").is_enabled()
        answer.find_elements(By.CSS_SELECTOR, "[role=group] button")[rank - 1].click()
    texts = [e.text for e in p.all("#samples article pre")]
    p.picture("rank-1440")
    p.see("#keep").click()
    p.see("#ranking-kept", "kept")
    a = [json.loads(line) for line in run("rhetor-label", "export", "l.db").splitlines()]
    assert len(a) == 1 and a[0]["ranks"] == [2, 1, 3, 3] and a[0]["models"] == ["sft"] * 4, a
    assert [seen(c).split() for c in a[0]["completions"]] == [c.split() for c in texts], (a, texts)
    assert a[0]["prompt"] == [{"role": "user", "content": "Where does Ana live?"}] and not p.errors(), p.errors()
    p.close()
    for width, dark in ((360, True), (360, False), (1440, True)):
        p = Page(width=width, height=800, dark=dark)
        p.get(f"{s.url}/enter?token={token}")
        p.see("#say")
        p.d.execute_script("localStorage.setItem('rhetor.language', 'zh')")
        p.d.refresh()
        p.see("#say").send_keys("安娜住在哪里？", Keys.ENTER)
        until(lambda: p.text("#send") == "发送" and p.all(".turn.assistant"), "the end of the answer")
        p.see(".turn.user .role", "您")
        p.picture(f"chat-zh-{width}-{'dark' if dark else 'light'}")
        assert not p.wider_than_the_window()
        p.see("#tab-rank", "排序").click()
        p.see("#say").send_keys("安娜住在哪里？", Keys.ENTER)
        until(lambda: p.text("#send") == "发送" and len(p.all("#samples article")) == 4, "four answers")
        p.see("#keep", "保存排序")
        p.picture(f"rank-zh-{width}-{'dark' if dark else 'light'}")
        assert not p.wider_than_the_window()
        p.see("#tab-compare", "比较").click()
        p.see("#say").send_keys("安娜住在哪里？", Keys.ENTER)
        p.see("#vote-bad", "都不好")
        p.picture(f"compare-zh-{width}-{'dark' if dark else 'light'}")
        assert not p.wider_than_the_window() and not p.errors(), p.errors()
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


main([a_conversation, hostile_answers, blind_comparisons, answers_ranked_in_place, a_client_that_leaves])
