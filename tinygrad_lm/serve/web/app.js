// The conversation, or the text, and how it grows.

import { events, get, post } from "./client.js";
import { h, isPart, one, plural } from "./dom.js";
import { showScores } from "./look.js";
import { writing } from "./settings.js";
import { choose, state, tokenElement } from "./tokens.js";

let mode = "chat";
let messages = []; // of user and assistant
let prompt = ""; // of a plain text: the text, or ids
let begun = 0; // where the last answer begins among the tokens
let cut = ""; // whether the last answer was cut off, in words
let running = null; // what aborts the answer that is being written

const log = one("log");
const field = one("message");
const system = () => (one("system").value.trim() ? [{ role: "system", content: one("system").value.trim() }] : []);

function bubble(role, ...children) {
  const inner = h("div", { class: "bubble" }, children);
  log.append(h("div", { class: `turn ${role}` }, inner));
  return inner;
}

// Draw the text from its tokens: messages as bubbles, and between them what the chat format puts there.
function draw() {
  const top = log.scrollTop;
  log.replaceChildren();
  const roles = mode === "chat" ? [...system(), ...messages].map((message) => message.role) : [];
  let box = null;
  let part;
  state.rows.forEach((row, i) => {
    const glue = row.part === null;
    if (mode === "text") {
      box ??= bubble("whole");
      const element = tokenElement(row, i);
      if (row.part === 0) element.classList.add("given");
      box.append(element);
      return;
    }
    if (box === null || row.part !== part) {
      if (glue) {
        const next = state.rows.slice(i).find((other) => other.part !== null)?.part;
        box = h("div", { class: `glue ${roles[next] ?? ""}`, role: "group", "aria-label": "Put there by the chat format" });
        log.append(box);
      } else box = bubble(roles[row.part]);
    }
    part = row.part;
    box.append(tokenElement(row, i, glue));
  });
  if (mode === "chat" && messages.at(-1)?.role === "assistant") {
    log.append(h("p", { class: "actions" }, h("button", { type: "button", class: "small", click: again }, "Draw another answer"), cut));
  }
  log.scrollTop = top;
}

function welcome() {
  const text = mode === "chat" ? "Say something to the model" : "Begin a text";
  const more = "Each token of the answer is shaded by how unlikely it was. Click one to see what else could have come next.";
  log.replaceChildren(h("p", { class: "welcome" }, h("b", {}, text), more));
}

function notice(text) {
  one("notice").textContent = text;
  one("notice").hidden = !text;
}

// Between the beginning of an answer and the end of looking at it nothing else can begin.
function working(on) {
  for (const id of ["chat", "text", "fresh", "send"]) one(id).disabled = on;
}

// controller: what stops the answer that is being written; null: none is.
function writingOf(controller) {
  running = controller;
  one("stop").hidden = !controller;
  one("send").hidden = Boolean(controller);
}

// Let the model write on, and show each token as it comes. Returns {text, ids, finish}.
async function write(path, content, box) {
  const found = { text: "", ids: [], finish: null };
  const controller = new AbortController();
  writingOf(controller);
  box.classList.add("busy");
  try {
    for await (const event of events(path, { ...content, ...writing(), return_token_ids: true }, controller.signal)) {
      if (event.dropped_messages && !found.ids.length) forget(event.dropped_messages);
      const [choice] = event.choices;
      const rows = choice.logprobs?.content ?? oldForm(choice.logprobs);
      box.append(...rows.map((row) => tokenElement(row)));
      found.text += choice.delta?.content ?? choice.text ?? "";
      found.ids.push(...choice.token_ids);
      found.finish = choice.finish_reason;
      follow();
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    box.classList.remove("busy");
    writingOf(null);
  }
  one("live").textContent = found.text;
  return found;
}

function oldForm(logprobs) {
  return (logprobs?.tokens ?? []).map((token, i) => {
    const bytes = token.startsWith("bytes:") ? token.match(/[0-9a-f]{2}/g).map((x) => parseInt(x, 16)) : null;
    return { token: bytes ? "\ufffd" : token, bytes, logprob: logprobs.token_logprobs[i] };
  });
}

function forget(count) {
  messages.splice(0, count);
  notice(`The context is full: the oldest ${plural(count, "message")} were left out.`);
}

// Keep the end of the text in sight, unless the reader has scrolled away from it.
function follow() {
  if (log.scrollHeight - log.clientHeight - log.scrollTop < 160) log.scrollTop = log.scrollHeight;
}

// Look at the whole text, draw it from its tokens, and choose the one after which the last answer begins.
async function inspect(question, titles) {
  state.rows = (await post("/v1/inspect", question)).tokens;
  draw();
  showScores(titles);
  begun = state.rows.length - question.answer.length;
  choose(Math.max(0, begun - 1));
  follow();
}

async function answer() {
  const box = bubble("assistant");
  log.scrollTop = log.scrollHeight;
  const { text, ids, finish } = await write("/v1/chat/completions", { messages: [...system(), ...messages], logprobs: true, truncation: "auto" }, box);
  cut = finish === "length" ? `cut off after ${plural(ids.length, "token")}` : "";
  const asked = [...system(), ...messages];
  messages.push({ role: "assistant", content: text });
  const last = asked.length;
  const titles = [...asked, messages.at(-1)].map(({ role }, i) => (i === last ? "the answer" : role));
  await inspect({ messages: asked, answer: ids }, titles);
}

async function say(text) {
  messages.push({ role: "user", content: text });
  if (messages.length === 1) log.replaceChildren();
  log.querySelector(".actions")?.remove();
  bubble("user", text);
  try {
    await answer();
  } catch (error) {
    if (messages.at(-1)?.role === "user") {
      messages.pop();
      field.value ||= text;
      state.rows.length ? draw() : welcome();
    }
    throw error;
  }
}

async function again() {
  const [message, rows] = [messages.pop(), state.rows];
  state.rows = rows.slice(0, begun);
  draw();
  choose(begun - 1);
  await attempt(async () => {
    try {
      await answer();
    } catch (error) {
      if (messages.at(-1)?.role === "user") messages.push(message);
      state.rows = rows;
      draw();
      throw error;
    }
  });
}

async function lengthen(text) {
  prompt = text || state.rows.map((row) => row.id);
  if (!prompt.length) prompt = "";
  log.replaceChildren();
  const box = bubble("whole");
  box.append(...(text ? [h("span", { class: "given" }, text)] : state.rows.map((row) => tokenElement(row))));
  follow();
  const { ids } = await write("/v1/completions", { prompt, logprobs: 0 }, box);
  await inspect({ prompt, answer: ids }, ["the beginning", "what was written"]);
}

async function attempt(work) {
  notice("");
  working(true);
  try {
    await work();
  } catch (error) {
    notice(error.message);
  }
  working(false);
  field.focus({ preventScroll: true });
}

function begin(next) {
  mode = next;
  messages = [];
  state.rows = [];
  notice("");
  choose(null);
  showScores([]);
  welcome();
  one("instructions").hidden = mode !== "chat";
  for (const id of ["chat", "text"]) one(id).setAttribute("aria-pressed", String(id === mode));
  field.placeholder = mode === "chat" ? "Your message" : "The beginning of a text; empty: continue what stands here";
  field.setAttribute("aria-label", mode === "chat" ? "Your message" : "The beginning of a text");
  one("send").textContent = mode === "chat" ? "Send" : "Continue";
}

one("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = mode === "chat" ? field.value.trim() : field.value;
  if (one("send").disabled || (mode === "chat" && !text)) return;
  field.value = "";
  grow();
  attempt(() => (mode === "chat" ? say(text) : lengthen(text)));
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    one("form").requestSubmit();
  }
});
function grow() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}
field.addEventListener("input", grow);
one("stop").addEventListener("click", () => running?.abort());
one("chat").addEventListener("click", () => begin("chat"));
one("text").addEventListener("click", () => begin("text"));
one("fresh").addEventListener("click", () => begin(mode));
for (const view of ["talk", "look"]) {
  one(`view-${view}`).addEventListener("click", () => {
    document.body.dataset.view = view;
    for (const other of ["talk", "look"]) one(`view-${other}`).setAttribute("aria-pressed", String(other === view));
  });
}

attempt(async () => {
  const [card] = (await get("/v1/models")).data;
  one("name").textContent = document.title = card.id;
  one("facts").textContent = `${card.parameters.toLocaleString("en")} parameters, a context of ${plural(card.max_model_len, "token")}`;
  begin(card.chat ? "chat" : "text");
  if (!card.chat) one("facts").textContent += ", not trained to chat";
  document.documentElement.dataset.ready = "yes";
});
