// What the pages share: elements without HTML in strings, hostile text made visible, calls, languages.

// el("div", {class: "x", onclick: f}, child, "text")
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, "");
    else if (v !== false && v !== null && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// Characters that change how what follows is shown, or that show as nothing, become their names.
const hidden = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

// A model's or a person's text, as text.
export function shown(text, cls = "text") {
  const pre = el("pre", { class: cls, dir: "auto", tabindex: "0" });
  put(pre, text);
  return pre;
}

// Of a text that would hold up the browser the beginning, until somebody asks for the rest.
const long = 20000;
export function put(pre, whole, all = false) {
  const text = all ? whole : whole.slice(0, long);
  pre.replaceChildren();
  let at = 0;
  for (const m of text.matchAll(hidden)) {
    pre.append(text.slice(at, m.index));
    const code = "U+" + m[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    pre.append(el("span", { class: "control", title: code }, code));
    at = m.index + m[0].length;
  }
  pre.append(text.slice(at));
  if (text.length < whole.length) pre.append(el("button", { type: "button", onclick: () => put(pre, whole, true) },
    `… ${(whole.length - text.length).toLocaleString()}`));
}

// A prompt: a text, or messages.
export function conversation(prompt, t) {
  if (typeof prompt === "string") return shown(prompt);
  return el("div", {}, ...prompt.flatMap((m) => [
    el("div", { class: "role" }, t(m.role)), shown(m.content)]));
}

export class CallError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// JSON there and back. A network that is gone is a TypeError, a refusal a CallError.
export async function call(path, body) {
  const r = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const j = await r.json().catch(() => ({}));
  if (!r.ok) throw new CallError(r.status, j.error ? j.error.message : r.statusText);
  return j;
}

export const languages = { en: "English", zh: "中文" };

export function language() {
  const kept = localStorage.getItem("rhetor.language");
  return kept || (navigator.language.startsWith("zh") ? "zh" : "en");
}

// t("name") or t("name", value) for "... {} ..."
export function translator(words) {
  const mine = words[language()];
  document.documentElement.lang = language();
  return (name, ...values) => {
    let s = mine[name] ?? words.en[name] ?? name;
    for (const v of values) s = s.replace("{}", v);
    return s;
  };
}

export function languageChoice() {
  const s = el("select", { "aria-label": "Language / 语言", onchange: () => {
    localStorage.setItem("rhetor.language", s.value);
    location.reload();
  } }, ...Object.entries(languages).map(([k, v]) => el("option", { value: k, selected: k === language() }, v)));
  return s;
}

// A new identity for something that may be sent twice.
export function identity() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}
