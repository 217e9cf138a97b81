"""The labelling page in a real browser."""
import json
import threading

from web import *

HOSTILE = ["<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">",
           "left \u202egnp.exe\u202c right", "A" * 1_000_000]


def database(completions, n=1, **settings):
    with open("samples.jsonl", "w") as f:
        for i in range(n):
            f.write(json.dumps({"prompt": f"Question {i}", "completions": completions(i)}) + "\n")
    run("rhetor-label", "import", "l.db", "samples.jsonl", "--gold-every", 0, "--repeat-every", 0,
        *[w for k, v in settings.items() for w in ("--" + k, v)])
    return run("rhetor-label", "token", "l.db", "ann").strip()


def exported(*more):
    return [json.loads(line) for line in run("rhetor-label", "export", "l.db", *more).splitlines()]


def shown_letters(page, words):
    """Which completion stands under which letter."""
    return [next(w for w in words if w in c.text) for c in page.all("article")]


def rank_skip_undo():
    words = ["red answer", "green answer", "blue answer"]
    token = database(lambda i: words, n=3)
    s = Server("rhetor-label", "serve", "l.db")
    p = Page()
    p.get(s.url)
    p.see("input#token").send_keys(token, Keys.ENTER)
    p.see("#prompt", "Question 0")
    assert token not in p.d.current_url and token not in p.d.execute_script("return document.cookie")
    order = shown_letters(p, words)
    # the first shown is best, the others tie
    p.keys("1", "2", "=")
    p.see("#ranking", "still to do")
    for _ in words:
        p.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    p.see("#ranking", "A > B = C")
    p.picture("label-1440")
    p.keys(Keys.ENTER)
    p.see("#prompt", "Question 1")
    p.see("#progress", "1 done")
    a = exported()[0]
    ranks = dict(zip(a["completions"], a["ranks"]))
    assert [ranks[w] for w in order] == [1, 2, 2], (order, a)
    assert a["quality"] == [2, 2, 2] and a["labeller"] == "ann"
    # skip with a reason; undo brings it back, undo again the first with its answer
    p.keys("s")
    p.see("#reason").send_keys("not English", Keys.ENTER)
    p.see("#prompt", "Question 2")
    p.keys("u")
    p.see("#prompt", "Question 1")
    p.see("#progress", "1 done")
    p.keys("u")
    p.see("#prompt", "Question 0")
    p.see("#ranking", "A > B = C")
    # flags by the mouse, another rank by a button
    p.keys("f")
    here = p.all("article")[0]
    here.find_elements(By.CSS_SELECTOR, "details input")[2].click()
    here.find_elements(By.CSS_SELECTOR, "[role=group] button")[2].click()
    p.see("#ranking", "B = C > A")
    p.see("#send").click()
    p.see("#prompt", "Question 1")
    a = exported()[0]
    ranks = dict(zip(a["completions"], a["ranks"]))
    assert [ranks[w] for w in order] == [2, 1, 1], (order, a)
    assert a["flags"][a["completions"].index(order[0])] == ["hallucination"]
    assert len(exported()) == 1 and not p.errors(), p.errors()
    p.close()
    assert s.kill(signal.SIGTERM) == 0


def reload_in_the_middle():
    token = database(lambda i: ["one", "two"])
    s = Server("rhetor-label", "serve", "l.db")
    p = Page()
    p.get(s.url + "/enter?token=" + token)
    p.see("#prompt", "Question 0")
    p.keys("2", Keys.ARROW_RIGHT)
    p.see("#ranking", "still to do")
    p.d.refresh()
    p.see("#ranking", "still to do: A Quality, B Rank")
    assert p.all("article")[0].find_elements(By.CSS_SELECTOR, "button[aria-pressed=true]")
    p.see("#status", "draft saved")
    p.close()
    # the draft is the server's as well: another browser goes on with it
    q = Page()
    q.get(s.url + "/enter?token=" + token)
    q.see("#prompt", "Question 0")
    assert q.all("article")[0].find_elements(By.CSS_SELECTOR, "button[aria-pressed=true]")
    q.close()
    s.kill()


def a_link_from_elsewhere():
    """A labeller follows a link in somebody else's page: the token's, then the bare address."""
    token = database(lambda i: ["one", "two"])
    s = Server("rhetor-label", "serve", "l.db")
    p = Page()
    for link in ("/enter?token=" + token, "/"):
        p.get(f"http://localhost:{s.port}/style.css")  # another site than 127.0.0.1
        p.d.execute_script("const a = document.createElement('a'); a.href = arguments[0]; a.id = 'link'; a.textContent = 'link';"
                           "document.documentElement.append(a); a.click()", s.url + link)
        p.see("#prompt", "Question 0")
        assert token not in p.d.current_url
    p.close()
    s.kill()


def killed_in_the_middle():
    token = database(lambda i: ["one", "two"], n=2)
    s = Server("rhetor-label", "serve", "l.db")
    p = Page()
    p.get(s.url + "/enter?token=" + token)
    p.see("#prompt", "Question 0")
    p.keys("1", "2")
    for _ in range(2):
        p.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    p.see("#ranking", "A > B")
    s.kill()
    p.keys(Keys.ENTER)
    p.see("#status", "not saved yet")
    p.picture("label-unsaved")
    assert exported() == []
    p.d.execute_script("window.before = true")
    s.start()
    p.see("#prompt", "Question 1")
    assert len(exported()) == 1
    # the same with the page closed in between: what waits is in the browser
    p.keys("1", "2")
    for _ in range(2):
        p.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    p.see("#ranking", "A > B")
    s.kill()
    p.keys(Keys.ENTER)
    p.see("#status", "not saved yet")
    s.start()
    p.d.refresh()
    p.see("#nothing")
    assert len(exported()) == 2
    p.close()
    s.kill()


def two_at_once():
    database(lambda i: ["one", "two"], n=6, overlap=1)
    tokens = [run("rhetor-label", "token", "l.db", name).strip() for name in ("ann", "bob")]
    s = Server("rhetor-label", "serve", "l.db")
    pages = [Page(), Page()]

    def work(p, token):
        p.get(s.url + "/enter?token=" + token)
        while not p.all("#nothing"):
            p.see("#prompt, #nothing")
            if p.all("#prompt"):
                p.keys("1", "2", Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER)
                until(lambda: "A > B" not in (p.all("#ranking") and p.text("#ranking") or ""), "the next task")

    threads = [threading.Thread(target=work, args=a) for a in zip(pages, tokens)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(WAIT_S)
    a = exported()
    assert len(a) == 6 and len({r["prompt"] for r in a}) == 6, a  # nobody got what the other had
    for p in pages:
        p.close()
    s.kill()


def hostile_texts():
    token = database(lambda i: HOSTILE)
    s = Server("rhetor-label", "serve", "l.db")
    for width, dark in ((360, False), (1440, True)):
        p = Page(width=width, dark=dark)
        p.get(s.url + "/enter?token=" + token)
        p.see("#prompt", "Question 0")
        texts = p.contents("article")
        assert any("<script>" in t for t in texts) and any("U+202E" in t for t in texts)
        assert p.d.title == "Rhetor: labelling" and not p.all("article script, article img")
        assert not p.wider_than_the_window()
        p.picture(f"label-hostile-{width}")
        p.close()
    s.kill()


def in_chinese_and_narrow():
    token = database(lambda i: ["住在罗马。", "不知道。"])
    s = Server("rhetor-label", "serve", "l.db")
    p = Page(width=360, height=740)
    p.get(s.url + "/enter?token=" + token)
    p.see("#prompt")
    p.d.execute_script("localStorage.setItem('rhetor.language', 'zh')")
    p.d.refresh()
    p.see("#prompt h2", "提示")
    p.see("#send", "提交")
    assert not p.wider_than_the_window()
    p.keys("?")
    p.see("dialog[open]", "快捷键")
    p.keys(Keys.ESCAPE)
    p.picture("label-zh-360")
    p.close()
    s.kill()


def a_demonstration():
    with open("p.jsonl", "w") as f:
        f.write(json.dumps({"prompt": [{"role": "system", "content": "Be brief."},
                                       {"role": "user", "content": "Where does Ana live?"}]}) + "\n")
        f.write(json.dumps({"prompt": ""}) + "\n")
    run("rhetor-label", "import", "l.db", "p.jsonl")
    token = run("rhetor-label", "token", "l.db", "ann", "--admin").strip()
    s = Server("rhetor-label", "serve", "l.db")
    p = Page()
    p.get(s.url + "/enter?token=" + token)
    p.see("#prompt", "Be brief.")
    p.see("#completion").send_keys("In Rome. s u ? 1", Keys.CONTROL, Keys.ENTER)
    until(lambda: p.all("#completion") and not p.all("section#prompt"), "the page for an own prompt")
    p.see("textarea#prompt").send_keys("Count to two.")
    p.see("#completion").send_keys("One, two.")
    p.see("#send").click()
    p.see("#nothing")
    a = exported("--demos")
    assert [(r["prompt"] if isinstance(r["prompt"], str) else len(r["prompt"]), r["completion"]) for r in a] == [
        (2, "In Rome. s u ? 1"), ("Count to two.", "One, two.")], a
    p.get(s.url + "/report")
    p.see("caption", "Progress")
    p.picture("label-report")
    assert not p.errors(), p.errors()
    p.close()
    s.kill()


main([rank_skip_undo, reload_in_the_middle, a_link_from_elsewhere, killed_in_the_middle, two_at_once, hostile_texts,
      in_chinese_and_narrow, a_demonstration])
