"""The loop of configs/human with a labeller at the real page: samples, rankings, reward model, PPO, then both models
compared blind on the chat page. The labeller likes what is longer; that the reward model does too is another test's matter."""
from models import models
from web import *

PROMPTS = 3


def pipeline():
    """The recipe as far as it goes; its exit status."""
    return subprocess.run(
        [f"{BIN}/rhetor-pipeline", os.path.join(os.path.dirname(BIN), "configs", "human"), "--run", "loop", "--data", "in",
         "ppo:ppo.episodes=8", "ppo:ppo.batch=8", "ppo:ppo.minibatches=2", "ppo:ppo.max_response=8", "reward:train.batch=2",
         "reward:data.on_long=drop", "ppo:data.on_long=drop"],
        env={**os.environ, "RUN": "", "K": "3", "MAX_NEW": "8"}, capture_output=True, text=True)


def rank(p):
    """Ranks what the page shows, by length and by keys."""
    lengths = [len(t) for t in p.contents("article pre")]
    for n in lengths:
        p.keys(str(1 + sum(m > n for m in lengths)))
    for _ in lengths:  # the marked one is the first again
        p.keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    p.see("#ranking", "Ranking")
    p.keys(Keys.ENTER)


def people_in_the_loop():
    sft = models()[0].split("=")[1]
    os.mkdir("in")
    os.symlink(sft, "in/sft")
    with open("in/prompts.jsonl", "w") as f:
        f.writelines(json.dumps({"prompt": f"Where does Ana live? {i}"}) + "\n" for i in range(PROMPTS))
    first = pipeline()
    assert first.returncode == 75, (first.returncode, first.stderr, first.stdout)
    token = run("rhetor-label", "token", "loop/labels.db", "ann").strip()
    s = Server("rhetor-label", "serve", "loop/labels.db")
    p = Page()
    p.get(s.url + "/enter?token=" + token)
    for i in range(PROMPTS):
        p.see("#progress", f"{i} done")
        rank(p)
    p.see("#nothing")
    assert not p.errors(), p.errors()
    p.close()
    s.kill(signal.SIGTERM)
    second = pipeline()
    assert second.returncode == 0, (second.returncode, second.stderr, second.stdout)
    with open("loop/ranked.jsonl") as f:
        ranked = [json.loads(line) for line in f]
    assert len(ranked) == PROMPTS and all(r["labeller"] == "ann" for r in ranked), ranked
    for r in ranked:  # the longest answer is the best
        assert len(seen(r["completions"][r["ranks"].index(1)])) == max(len(seen(c)) for c in r["completions"]), r
    s = Server("rhetor-serve", "-m", f"sft={sft}", "-m", "ppo=loop/ppo", "--labels", "loop/labels.db")
    p = Page()
    p.get(s.url + "/enter?token=" + token)
    p.see("#tab-compare").click()
    p.see("#say").send_keys("Where does Ben live?", Keys.ENTER)
    p.see("#vote-a").click()
    p.see("#vote-kept", "kept")
    a = [json.loads(line) for line in run("rhetor-label", "export", "loop/labels.db").splitlines()]
    assert [sorted(r["models"]) for r in a if "models" in r] == [["ppo", "sft"]], a
    p.close()
    s.kill()


main([people_in_the_loop])
