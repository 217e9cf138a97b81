// Labelling: one task at a time. What a person did is kept in the browser until the server has
// acknowledged it, and sent again after a broken network or a new start of either side.
import { call, CallError, conversation, el, identity, languageChoice, shown, translator } from "/common.js";

const t = translator({
  en: {
    done: "{} done", left: "{} left", prompt: "Prompt", answer: "Answer {}", rank: "Rank", quality: "Quality",
    flags: "Flags ({})", note: "Note (optional)", send: "Send", skip: "Skip", undo: "Undo", help: "Keys",
    saved: "saved", unsaved: "not saved yet ({}): trying again", nothing: "Nothing is left to do. Thank you!",
    ranking: "Ranking: {}", toDo: "still to do: {}", own: "Your prompt", write: "Write the answer",
    reason: "Why skip it?", cancel: "Cancel", user: "User", assistant: "Assistant", system: "System", close: "Close",
    drafting: "draft saved", refused: "refused: {}", report: "Report", best: "1 is best; equal ranks are ties",
  },
  zh: {
    done: "已完成 {}", left: "剩余 {}", prompt: "提示", answer: "回答 {}", rank: "名次", quality: "质量",
    flags: "标记（{}）", note: "备注（可不填）", send: "提交", skip: "跳过", undo: "撤销", help: "快捷键",
    saved: "已保存", unsaved: "尚未保存（{}），正在重试", nothing: "没有待标注的内容了，谢谢！",
    ranking: "排名：{}", toDo: "尚缺：{}", own: "您的提示", write: "请写出回答",
    reason: "为什么跳过？", cancel: "取消", user: "用户", assistant: "助手", system: "系统", close: "关闭",
    drafting: "草稿已保存", refused: "被拒绝：{}", report: "报告", best: "1 为最好；名次相同表示并列",
  },
});
const keys = {
  en: [["1 … 9", "rank of the marked answer"], ["=", "the same rank as the one placed before it"],
    ["↑ ↓", "mark another answer"], ["← →", "its quality"], ["f", "its flags"], ["Enter", "send"],
    ["s", "skip, with a reason"], ["u", "undo: the task before comes back"], ["?", "this list"]],
  zh: [["1 … 9", "所选回答的名次"], ["=", "与上一个名次相同"], ["↑ ↓", "选择回答"], ["← →", "质量分"],
    ["f", "标记"], ["Enter", "提交"], ["s", "跳过并说明原因"], ["u", "撤销，回到上一个任务"], ["?", "本列表"]],
};
const zh = document.documentElement.lang === "zh";
const main = document.getElementById("main"), bar = document.getElementById("bar");
const status = el("span", { role: "status", class: "soft", id: "status" });
const letters = "ABCDEFGHI";

let state = null;     // what /api/task said
let body = null;      // the answer so far
let here = 0;         // the marked completion
let lastRank = 0;     // placed last
let seconds = 0;      // at this task while the page was seen
let draftTimer = null;

setInterval(() => { if (document.visibilityState === "visible") seconds++; }, 1000);

// --- what was not acknowledged yet -------------------------------------------------------------

const queueKey = "rhetor.queue";
const queue = () => JSON.parse(localStorage.getItem(queueKey) || "[]");
const keepQueue = (q) => localStorage.setItem(queueKey, JSON.stringify(q));
let flushing = false;

// Sends what waits, in order; true when nothing waits any more.
async function flush() {
  if (flushing) return false;
  flushing = true;
  try {
    for (let q = queue(); q.length; q = queue()) {
      try {
        await call(q[0].path, q[0].body);
      } catch (error) {
        if (!(error instanceof CallError) || error.status >= 500 || error.status === 429 || error.status === 401) {
          status.textContent = t("unsaved", q.length);
          status.className = "bad";
          if (error.status === 401) location.reload();
          return false;
        }
        status.textContent = t("refused", error.message); // the server's last word about it
        status.className = "bad";
        keepQueue(queue().slice(1));
        return true;
      }
      keepQueue(queue().slice(1));
      status.textContent = t("saved");
      status.className = "good";
    }
    return true;
  } finally {
    flushing = false;
  }
}

async function settle() {
  while (!(await flush())) await new Promise((r) => setTimeout(r, 1500));
}

async function post(path, value) {
  keepQueue([...queue(), { path, body: value }]);
  await settle();
  await next();
}

// --- a task ------------------------------------------------------------------------------------

const draftKey = () => "rhetor.draft." + state.task.assignment;

async function next() {
  for (;;) {
    try {
      state = await call("/api/task");
      break;
    } catch (error) {
      if (error.status === 401) return location.reload();
      status.textContent = t("unsaved", queue().length);
      status.className = "bad";
      await new Promise((r) => setTimeout(r, 1500));
    }
  }
  here = 0;
  lastRank = 0;
  seconds = 0;
  if (state.task) {
    const k = state.task.completions.length;
    const kept = localStorage.getItem(draftKey());
    body = kept ? JSON.parse(kept) : state.task.draft || {};
    if (k) {
      body = { rank: body.rank || Array(k).fill(null), quality: body.quality || Array(k).fill(null),
        flags: body.flags || Array.from({ length: k }, () => []), note: body.note || "" };
    }
  }
  if (state.task && localStorage.getItem(draftKey())) changed(); // the server may not have it yet
  draw();
  scrollTo(0, 0);
}

function changed() {
  localStorage.setItem(draftKey(), JSON.stringify(body));
  clearTimeout(draftTimer);
  const assignment = state.task.assignment, copy = structuredClone(body);
  draftTimer = setTimeout(async () => {
    try {
      await call("/api/draft", { assignment, body: copy });
      if (!queue().length) { status.textContent = t("drafting"); status.className = "soft"; }
    } catch { /* it is kept here */ }
  }, 700);
}

// What is missing, as a list of words; empty: it can be sent.
function missing() {
  const f = state.form, list = [];
  if (!state.task.completions.length) return (body.completion || "").trim() ? [] : [t("write")];
  state.task.completions.forEach((_, i) => {
    if (f.ranking && !body.rank[i]) list.push(letters[i] + " " + t("rank"));
    if (f.quality && f.quality.required && body.quality[i] === null) list.push(letters[i] + " " + t("quality"));
  });
  return list;
}

async function send() {
  if (!state.task || missing().length) return refresh();
  clearTimeout(draftTimer);
  localStorage.removeItem(draftKey());
  const answer = { assignment: state.task.assignment, id: identity(), body, seconds };
  state.task = null; // Enter pressed twice sends once
  await post("/api/answer", answer);
}

async function skip(reason) {
  clearTimeout(draftTimer);
  const assignment = state.task.assignment;
  state.task = null;
  await post("/api/skip", { assignment, reason });
}

async function undo() {
  clearTimeout(draftTimer);
  await post("/api/undo", {});
}

// --- drawing -----------------------------------------------------------------------------------

function place(i, rank) {
  body.rank[i] = rank;
  lastRank = rank;
  const free = body.rank.findIndex((r, j) => !r && j > i), any = body.rank.findIndex((r) => !r);
  if (free >= 0 || any >= 0) here = free >= 0 ? free : any;
  changed();
  refresh();
}

function rate(i, q) {
  body.quality[i] = q;
  changed();
  refresh();
}

const cards = [];

function choice(name, values, get, set) {
  const buttons = values.map((v) => el("button", { type: "button", onclick: () => set(v),
    "aria-label": name + " " + v }, String(v)));
  const row = el("div", { class: "row", role: "group", "aria-label": name }, el("span", { class: "name" }, name), ...buttons);
  row.refresh = () => buttons.forEach((b, j) => b.setAttribute("aria-pressed", String(get() === values[j])));
  return row;
}

function card(text, i) {
  const f = state.form, k = state.task.completions.length, parts = [];
  if (f.ranking) parts.push(choice(t("rank"), Array.from({ length: k }, (_, j) => j + 1),
    () => body.rank[i], (v) => { here = i; place(i, v); }));
  if (f.quality) parts.push(choice((zh && f.quality.label_zh) || f.quality.label || t("quality"),
    Array.from({ length: f.quality.high - f.quality.low + 1 }, (_, j) => f.quality.low + j),
    () => body.quality[i], (v) => { here = i; rate(i, v); }));
  const summary = el("summary"), flags = el("details", {}, summary, ...f.flags.map((flag) => {
    const box = el("input", { type: "checkbox", onchange: () => {
      body.flags[i] = body.flags[i].filter((n) => n !== flag.name).concat(box.checked ? [flag.name] : []);
      changed();
      refresh();
    } });
    box.checked = body.flags[i].includes(flag.name);
    return el("label", {}, box, (zh && flag.label_zh) || flag.label);
  }));
  const a = el("article", { class: "card", "aria-label": t("answer", letters[i]), onclick: () => { here = i; refresh(); } },
    el("h2", {}, t("answer", letters[i])), shown(text), ...parts, f.flags.length ? flags : null);
  a.flags = flags;
  a.refresh = () => {
    a.classList.toggle("here", i === here);
    parts.forEach((p) => p.refresh());
    summary.textContent = t("flags", body.flags[i].length);
  };
  return a;
}

const ranking = el("span", { class: "space", id: "ranking", "aria-live": "polite" });
const sendButton = el("button", { class: "main", id: "send", onclick: send }, t("send"));

function refresh() {
  if (!state.task) return;
  cards.forEach((c) => c.refresh());
  const list = missing();
  if (cards.length && state.form.ranking) {
    const places = [...new Set(body.rank.filter((r) => r))].sort((a, b) => a - b);
    const text = places.map((p) => body.rank.flatMap((r, i) => (r === p ? [letters[i]] : [])).join(" = ")).join(" > ");
    ranking.textContent = list.length ? t("toDo", list.join(", ")) : t("ranking", text);
  } else ranking.textContent = list.length ? t("toDo", list.join(", ")) : "";
  sendButton.disabled = list.length > 0;
}

function draw() {
  const p = state.progress;
  bar.replaceChildren(el("h1", {}, "Rhetor"), el("span", { class: "soft", id: "progress" },
    t("done", p.done) + " · " + t("left", p.left)), status, el("span", { class: "space" }),
    el("span", { class: "soft" }, state.labeller), state.admin ? el("a", { href: "/report" }, t("report")) : "",
    el("button", { onclick: () => help.showModal() }, t("help")), languageChoice());
  cards.length = 0;
  if (!state.task) {
    main.replaceChildren(el("p", { class: "card", id: "nothing" }, t("nothing")),
      el("button", { onclick: undo }, t("undo")));
    return;
  }
  const task = state.task, own = !task.completions.length && task.prompt === "";
  const parts = [];
  if (state.form.instructions) parts.push(el("p", { class: "soft" }, state.form.instructions));
  if (!own) parts.push(el("section", { class: "card", id: "prompt" }, el("h2", {}, t("prompt")), conversation(task.prompt, t)));
  if (task.completions.length) {
    cards.push(...task.completions.map(card));
    const note = el("textarea", { id: "note", rows: "2", "aria-label": t("note"), placeholder: t("note"),
      oninput: () => { body.note = note.value; changed(); } });
    note.value = body.note;
    parts.push(el("p", { class: "soft" }, t("best")), el("div", { class: "grid" }, ...cards), note);
  } else {
    for (const field of own ? ["prompt", "completion"] : ["completion"]) {
      const area = el("textarea", { id: field, rows: field === "prompt" ? "4" : "10", oninput: () => {
        body[field] = area.value;
        changed();
        refresh();
      } });
      area.value = body[field] || "";
      parts.push(el("label", { for: field }, t(field === "prompt" ? "own" : "write")), area);
    }
  }
  parts.push(el("div", { class: "foot" }, ranking, el("button", { onclick: undo, id: "undo" }, t("undo")),
    el("button", { onclick: () => skipDialog.showModal(), id: "skip-open" }, t("skip")), sendButton));
  main.replaceChildren(...parts);
  refresh();
}

// --- keys --------------------------------------------------------------------------------------

const help = document.getElementById("help"), skipDialog = document.getElementById("skip");
help.append(el("h2", {}, t("help")), ...keys[zh ? "zh" : "en"].map(([k, what]) => el("p", {}, el("kbd", {}, k), " " + what)),
  el("form", { method: "dialog" }, el("button", {}, t("close"))));
const reason = el("input", { id: "reason", "aria-label": t("reason") });
skipDialog.append(el("h2", {}, t("reason")), reason, el("div", { class: "row" },
  el("button", { class: "main", id: "skip-send", onclick: skipNow }, t("skip")),
  el("button", { onclick: () => skipDialog.close() }, t("cancel"))));
reason.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); skipNow(); } });

function skipNow() {
  skipDialog.close();
  if (state.task) skip(reason.value);
  reason.value = "";
}

function move(by) {
  here = (here + by + cards.length) % cards.length;
  refresh();
  cards[here].scrollIntoView({ block: "nearest", behavior: "smooth" });
}

document.addEventListener("keydown", (e) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) && e.target.type !== "checkbox";
  if (e.ctrlKey && e.key === "Enter") { e.preventDefault(); return send(); }
  if (typing || e.ctrlKey || e.metaKey || e.altKey || help.open || skipDialog.open || !state || !state.task && e.key !== "u") return;
  const k = cards.length, q = state.form.quality;
  let used = true;
  if (k && /^[1-9]$/.test(e.key) && Number(e.key) <= k && state.form.ranking) place(here, Number(e.key));
  else if (e.key === "=" && k && lastRank) place(here, lastRank);
  else if (e.key === "ArrowDown" && k) move(1);
  else if (e.key === "ArrowUp" && k) move(-1);
  else if ((e.key === "ArrowLeft" || e.key === "ArrowRight") && k && q) {
    const v = body.quality[here];
    const start = e.key === "ArrowRight" ? q.low - 1 : q.high + 1;
    rate(here, Math.min(q.high, Math.max(q.low, (v ?? start) + (e.key === "ArrowRight" ? 1 : -1))));
  } else if (e.key === "f" && k) cards[here].flags.open = !cards[here].flags.open;
  else if (e.key === "Enter" && e.target.tagName !== "BUTTON" && e.target.tagName !== "SUMMARY") send();
  else if (e.key === "s") skipDialog.showModal();
  else if (e.key === "u") undo();
  else if (e.key === "?") help.showModal();
  else used = false;
  if (used) e.preventDefault();
});

settle().then(next);
