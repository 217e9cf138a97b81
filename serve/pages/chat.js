// Chat with a model, or two of them side by side and blind. The conversation stays in this browser.
import { call, el, languageChoice, put, shown, translator } from "/common.js";

const t = translator({
  en: {
    chat: "Chat", compare: "Compare", rank: "Rank", table: "Table", model: "Model", system: "System message", temperature: "Temperature",
    top_p: "Top p", max: "Longest answer", seed: "Seed (empty: any)", settings: "Settings", send: "Send", stop: "Stop",
    again: "Once more", copy: "Copy", copied: "copied", clear: "New conversation", say: "Your message", you: "You",
    assistant: "Assistant", a: "A is better", b: "B is better", tie: "Tie", bad: "Both bad", first: "First", second: "Second",
    it_was: "A was {}, B was {}", no_votes: "comparisons are not kept: rhetor-serve --labels DB keeps them", kept: "kept",
    next: "Next", strength: "strength", interval: "95 % interval", wins: "wins", ties: "ties", losses: "losses",
    none: "No comparisons yet.", not_finite: "Somebody won or lost everything: there is no finite strength yet.",
    cut: "(cut: the longest answer is reached)", offline: "the server cannot be reached", any: "any two",
    samples: "Answers", place: "Rank", keep: "Keep the ranking", best: "1 is best; equal ranks are ties",
  },
  zh: {
    chat: "对话", compare: "比较", rank: "排序", table: "排行", model: "模型", system: "系统消息", temperature: "温度",
    top_p: "Top p", max: "最长回答", seed: "随机种子（可空）", settings: "设置", send: "发送", stop: "停止",
    again: "重新生成", copy: "复制", copied: "已复制", clear: "新对话", say: "输入消息", you: "您",
    assistant: "助手", a: "A 更好", b: "B 更好", tie: "平局", bad: "都不好", first: "其一", second: "其二",
    it_was: "A 是 {}，B 是 {}", no_votes: "比较结果不会保存：rhetor-serve --labels DB 可以保存", kept: "已保存",
    next: "下一个", strength: "强度", interval: "95% 区间", wins: "胜", ties: "平", losses: "负",
    none: "还没有比较。", not_finite: "有模型全胜或全负，暂无有限的强度。",
    cut: "（已到最长回答）", offline: "无法连接服务器", any: "任意两个",
    samples: "回答数", place: "名次", keep: "保存排序", best: "1 为最好；名次相同表示并列",
  },
});

const bar = document.getElementById("bar"), main = document.getElementById("main");
const status = el("span", { role: "status", class: "bad", id: "status" });
const kept = JSON.parse(localStorage.getItem("rhetor.chat") || "{}");
const settings = Object.assign({ temperature: 1, top_p: 1, max_tokens: 256, seed: "", system: "" }, kept.settings);
let turns = kept.turns || [];     // {role, content, model?}
let models = [], me = { votes: false };
let running = null;               // an AbortController while an answer comes
let tab = "chat";

const keep = () => localStorage.setItem("rhetor.chat", JSON.stringify({ settings, turns }));

// Streams n answers; piece(text, i) gets all of answer i so far. Returns {texts, finish}.
async function ask(model, messages, piece, signal, n = 1) {
  const seed = settings.seed === "" ? undefined : Number(settings.seed);
  const r = await fetch("/v1/chat/completions", { method: "POST", signal, headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, messages, n, stream: true, temperature: Number(settings.temperature),
      top_p: Number(settings.top_p), max_tokens: Number(settings.max_tokens), seed }) });
  if (!r.ok) throw new Error((await r.json().catch(() => ({ error: { message: r.statusText } }))).error.message);
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  const texts = Array(n).fill("");
  let buffer = "", finish = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return { texts, finish };
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const e of events) {
      if (!e.startsWith("data: ") || e === "data: [DONE]") continue;
      const choice = JSON.parse(e.slice(6)).choices[0];
      if (!choice) continue;
      const i = choice.index || 0;
      if (choice.delta.content) piece(texts[i] += choice.delta.content, i);
      finish = choice.finish_reason || finish;
    }
  }
}

const messagesFor = (list) => [...(settings.system ? [{ role: "system", content: settings.system }] : []),
  ...list.map(({ role, content }) => ({ role, content }))];

function failed(error) {
  if (error.name === "AbortError") return;
  status.textContent = error instanceof TypeError ? t("offline") : error.message;
}

// --- chat --------------------------------------------------------------------------------------

const modelChoice = el("select", { id: "model", "aria-label": t("model"), onchange: () => {
  settings.model = modelChoice.value;
  keep();
} });
const input = el("textarea", { id: "say", rows: "3", placeholder: t("say"), "aria-label": t("say"), onkeydown: (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); submit(); }
} });
const sendButton = el("button", { class: "main", id: "send", onclick: submit }, t("send"));
const list = el("div", { class: "turns", id: "turns" });

function submit() {
  if (running) return running.abort();
  const content = input.value.trim();
  if (!content) return;
  input.value = "";
  if (tab === "compare") return duel(content);
  if (tab === "rank") return samples(content);
  turns.push({ role: "user", content });
  answer();
}

async function answer() {
  const turn = { role: "assistant", content: "", model: modelChoice.value };
  const messages = messagesFor(turns);
  turns.push(turn);
  drawTurns();
  const pre = list.lastChild.querySelector("pre");
  await during(async (signal) => {
    const { finish } = await ask(turn.model, messages, (text) => { turn.content = text; put(pre, text); }, signal);
    if (finish === "length") list.lastChild.append(el("p", { class: "soft" }, t("cut")));
  });
  keep();
}

async function during(work) {
  running = new AbortController();
  sendButton.textContent = t("stop");
  status.textContent = "";
  try {
    await work(running.signal);
  } catch (error) {
    failed(error);
  }
  running = null;
  sendButton.textContent = t("send");
}

function drawTurns() {
  list.replaceChildren(...turns.map((turn, i) => el("div", { class: "turn " + turn.role },
    el("div", { class: "role" }, turn.role === "user" ? t("you") : turn.model || t("assistant")),
    shown(turn.content), turn.role === "assistant" ? el("div", { class: "row" },
      el("button", { onclick: async (e) => {
        await navigator.clipboard.writeText(turn.content).catch(() => {});
        e.target.textContent = t("copied");
      } }, t("copy")),
      i === turns.length - 1 ? el("button", { class: "again", onclick: () => {
        if (running) return;
        turns.pop();
        answer();
      } }, t("again")) : null) : null)));
  keep();
}

// --- two at once, blind ------------------------------------------------------------------------

const choose = (list) => list[crypto.getRandomValues(new Uint32Array(1))[0] % list.length];
const place = el("div", { id: "duel" });
const pairChoice = [0, 1].map((i) => el("select", { id: "pair" + i, "aria-label": t(i ? "second" : "first") }));

async function duel(content) {
  const wanted = pairChoice.map((s) => s.value);
  let pair = wanted.includes("") || wanted[0] === wanted[1] ? null : wanted;
  if (!pair) {
    const first = choose(models);
    pair = [first, choose(models.filter((m) => m !== first))];
  }
  if (choose([0, 1])) pair.reverse();
  const messages = messagesFor([{ role: "user", content }]), texts = ["", ""];
  const pres = [shown(""), shown("")];
  const votes = el("div", { class: "row hidden", id: "votes" });
  place.replaceChildren(el("section", { class: "card" }, shown(content)), el("div", { class: "grid" },
    ...pres.map((p, i) => el("article", { class: "card" }, el("h2", {}, "AB"[i]), p))), votes);
  const vote = async (winner) => {
    votes.replaceChildren(el("span", { class: "space", id: "revealed" }, t("it_was", pair[0], pair[1])),
      el("span", { class: "good", id: "vote-kept" }));
    if (me.votes) {
      try {
        await call("/api/vote", { messages, answers: pair.map((model, i) => ({ model, text: texts[i] })),
          rank: { a: [1, 2], b: [2, 1] }[winner] || [1, 1], both_bad: winner === "bad" });
        document.getElementById("vote-kept").textContent = t("kept");
      } catch (error) { failed(error); }
    }
  };
  await during(async (signal) => {
    await Promise.all(pair.map((m, i) => ask(m, messages, (text) => { texts[i] = text; put(pres[i], text); }, signal)));
    votes.classList.remove("hidden");
    votes.append(...["a", "b", "tie", "bad"].map((name) => el("button", { id: "vote-" + name, onclick: () => vote(name) }, t(name))));
  });
}

// --- several answers of one model, ranked where they stand --------------------------------------

const many = el("input", { id: "many", type: "number", min: "2", max: "9", value: "4" });
const sampled = el("div", { id: "samples" });

async function samples(content) {
  const model = modelChoice.value, messages = messagesFor([{ role: "user", content }]);
  const k = Math.min(9, Math.max(2, Math.round(Number(many.value)) || 4));
  const numbers = Array.from({ length: k }, (_, i) => i + 1), rank = Array(k).fill(null), pres = numbers.map(() => shown(""));
  const note = el("span", { class: "space", id: "ranking-kept", role: "status" }, t("best"));
  const keepButton = el("button", { class: "main", id: "keep", disabled: true, onclick: async () => {
    keepButton.disabled = true;
    try {
      await call("/api/vote", { messages, answers: texts.map((text) => ({ model, text })), rank });
      note.textContent = t("kept");
    } catch (error) { keepButton.disabled = false; failed(error); }
  } }, t("keep"));
  let texts = [];
  const places = (i) => {
    const buttons = numbers.map((r) => el("button", { type: "button", "aria-label": `${t("place")} ${r}`, "aria-pressed": "false",
      onclick: () => {
        rank[i] = r;
        buttons.forEach((b, j) => b.setAttribute("aria-pressed", String(j + 1 === r)));
        keepButton.disabled = !me.votes || !texts.length || rank.includes(null);
      } }, String(r)));
    return el("div", { class: "row", role: "group", "aria-label": t("place") }, el("span", { class: "name" }, t("place")), ...buttons);
  };
  sampled.replaceChildren(el("section", { class: "card" }, shown(content)), el("div", { class: "grid" }, ...pres.map((p, i) =>
    el("article", { class: "card" }, el("h2", {}, "ABCDEFGHI"[i]), p, places(i)))), el("div", { class: "row" }, note, keepButton));
  await during(async (signal) => {
    ({ texts } = await ask(model, messages, (text, i) => put(pres[i], text), signal, k));
    keepButton.disabled = !me.votes || rank.includes(null);
  });
}

// --- the table ---------------------------------------------------------------------------------

async function drawTable() {
  try {
    const { models: rows } = await call("/api/arena");
    const f = (v) => (v === null ? "–" : v.toFixed(2));
    rows.sort((x, y) => (y.strength ?? 0) - (x.strength ?? 0));
    main.replaceChildren(!rows.length ? el("p", {}, t("none")) : el("table", { id: "arena" }, el("tr", {}, el("td"),
      ...["strength", "interval", "wins", "ties", "losses"].map((n) => el("th", { scope: "col" }, t(n)))),
      ...rows.map((r) => el("tr", {}, el("th", { scope: "row" }, r.model), el("td", {}, f(r.strength)),
        el("td", {}, `${f(r.low)} … ${f(r.high)}`), el("td", {}, String(r.wins)), el("td", {}, String(r.ties)), el("td", {}, String(r.losses))))),
      rows.length && rows[0].strength === null ? el("p", { class: "soft" }, t("not_finite")) : "");
  } catch (error) { failed(error); }
}

// --- the page ----------------------------------------------------------------------------------

function setting(name, key, attributes) {
  const e = key === "system" ? el("textarea", { id: "set-" + key, rows: "2" }) : el("input", { id: "set-" + key, ...attributes });
  e.value = settings[key];
  e.addEventListener("input", () => { settings[key] = e.value; keep(); });
  return el("label", {}, t(name), e);
}

function draw() {
  bar.replaceChildren(el("h1", {}, "Rhetor"), ...["chat", "compare", "rank", "table"].filter((n) => n === "chat" || n === "rank" || (n === "compare" ? models.length > 1 : me.votes))
    .map((n) => el("button", { id: "tab-" + n, "aria-pressed": String(tab === n), onclick: () => { tab = n; draw(); } }, t(n))),
    status, el("span", { class: "space" }), me.labeller ? el("span", { class: "soft" }, me.labeller) : "", languageChoice());
  if (tab === "table") return drawTable();
  const more = el("details", { class: "card" }, el("summary", {}, t("settings")), el("div", { class: "settings" },
    setting("temperature", "temperature", { type: "number", min: "0", max: "10", step: "0.1" }),
    setting("top_p", "top_p", { type: "number", min: "0.01", max: "1", step: "0.01" }),
    setting("max", "max_tokens", { type: "number", min: "1", step: "1" }),
    setting("seed", "seed", { type: "number", step: "1" })), setting("system", "system"));
  if (tab === "chat") {
    main.replaceChildren(el("div", { class: "row" }, el("span", { class: "name" }, t("model")), modelChoice,
      el("button", { id: "clear", onclick: () => { turns = []; drawTurns(); } }, t("clear"))), more, list);
    drawTurns();
  } else if (tab === "rank") {
    main.replaceChildren(el("div", { class: "row" }, el("span", { class: "name" }, t("model")), modelChoice,
      el("label", { class: "name", for: "many" }, t("samples")), many), me.votes ? "" : el("p", { class: "soft" }, t("no_votes")), more, sampled);
  } else {
    main.replaceChildren(el("div", { class: "row" }, ...pairChoice), me.votes ? "" : el("p", { class: "soft" }, t("no_votes")), more, place);
  }
  main.append(el("div", { class: "foot" }, el("div", { class: "space" }, input), sendButton));
  input.focus();
}

async function start() {
  try {
    me = await call("/api/me");
    models = (await call("/v1/models")).data.filter((m) => !m.reward).map((m) => m.id);
  } catch (error) {
    if (error.status === 401) return location.reload();
    failed(error);
  }
  modelChoice.append(...models.map((m) => el("option", { value: m }, m)));
  if (models.includes(settings.model)) modelChoice.value = settings.model;
  for (const s of pairChoice) s.append(el("option", { value: "" }, t("any")), ...models.map((m) => el("option", { value: m }, m)));
  draw();
}
start();
