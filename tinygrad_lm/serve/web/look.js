// What the model expects after the chosen token, and how likely the whole text is.

import { post } from "./client.js";
import { fixed, h, one, percent, plural, s, visible } from "./dom.js";
import { onChange, sampling } from "./settings.js";
import { choose, onChoice, state } from "./tokens.js";

let asked = new AbortController();
let timer = 0;
const invitation = one("context").textContent;

// Ask what comes after the chosen token, and show it. Of several questions only the last is of interest.
async function showNext() {
  asked.abort();
  asked = new AbortController();
  const here = state.here;
  one("before").disabled = here === null || here === 0;
  one("after").disabled = here === null || here === state.rows.length - 1;
  mark();
  if (here === null) {
    one("context").textContent = invitation;
    one("bars").replaceChildren();
    one("key").hidden = true;
    one("entropy").textContent = "";
    return;
  }
  const ids = state.rows.slice(0, here + 1).map((row) => row.id);
  const came = state.rows[here + 1];
  showContext(here);
  try {
    const question = { tokens: ids, came: came?.id ?? null, ...sampling() };
    showBars(await post("/v1/inspect/next", question, asked.signal), came);
  } catch (error) {
    if (error.name !== "AbortError") one("entropy").textContent = error.message;
  }
}

function showContext(here) {
  const before = state.rows.slice(Math.max(0, here - 7), here).map(visible).join("");
  one("context").replaceChildren(
    "After ",
    h("span", { class: "tail" }, here > 7 ? "…" : "", before),
    h("span", { class: "token" }, visible(state.rows[here])),
  );
}

function showBars(found, came) {
  const most = Math.max(...found.candidates.flatMap((row) => [row.before, row.after]), 1e-9);
  const bars = found.candidates.map((row) => {
    const isNext = row.id === came?.id;
    const meter = ["before", "after"].map((name) => {
      const bar = h("div", { class: name });
      bar.style.setProperty("--share", row[name] / most);
      return bar;
    });
    const said = `${percent(row.before)} by the model, drawn with ${percent(row.after)}${isNext ? "; this one came" : ""}`;
    return h(
      "li",
      { class: [row.after === 0 && "out", isNext && "came"].filter(Boolean).join(" "), title: `${row.rank}. ${visible(row)}: ${said}` },
      h("span", { class: "token" }, visible(row)),
      h("div", { class: "meter", "aria-hidden": "true" }, meter),
      h("span", { class: "figure" }, percent(row.before)),
      h("span", { class: "figure" }, percent(row.after)),
    );
  });
  const last = found.candidates.at(-1);
  if (last.rank > found.candidates.length) bars.splice(-1, 0, h("li", { class: "gap" }, `⋮ rank ${last.rank.toLocaleString("en")}`));
  one("bars").replaceChildren(...bars);
  one("key").hidden = false;
  const { before, after } = found.entropy;
  one("entropy").replaceChildren(
    `Entropy ${fixed(before)} → ${fixed(after)} nats: as open as a choice among ${fixed(Math.exp(before), 1)} → ${fixed(Math.exp(after), 1)} equal tokens. `,
    `${plural(found.drawable, "token")} of ${found.vocabulary.toLocaleString("en")} can be drawn.`,
    came ? " The underlined one came." : "",
  );
}

// The whole text: its surprise token by token, and in numbers. titles: what its parts are called.
export function showScores(titles) {
  one("scores").hidden = state.rows.length < 2;
  drawStrip();
  const known = state.rows.filter((row) => row.logprob !== undefined);
  const groups = titles.map((title, part) => [title, known.filter((row) => row.part === part)]);
  groups.push(["template", known.filter((row) => row.part === null)]);
  const line = ([title, rows], sum = false) => {
    const mean = (name) => rows.reduce((all, row) => all + row[name], 0) / rows.length;
    const cells = [title, rows.length, fixed(mean("logprob")), fixed(mean("entropy")), fixed(Math.exp(-mean("logprob")), 1)];
    return h("tr", { class: sum && "sum" }, cells.map((cell) => h("td", {}, String(cell))));
  };
  const heads = ["part", "tokens", "mean log P", "entropy", "perplexity"].map((name) => h("th", { scope: "col" }, name));
  one("parts").replaceChildren(
    h("thead", {}, h("tr", {}, heads)),
    h("tbody", {}, groups.filter(([, rows]) => rows.length).map((group) => line(group)), line(["all", known], true)),
  );
}

function drawStrip() {
  const n = Math.max(24, state.rows.length);
  const most = Math.max(4, ...state.rows.map((row) => Math.max(-(row.logprob ?? 0), row.entropy ?? 0)));
  const last = Math.max(...state.rows.map((row) => row.part ?? 0));
  const y = (x) => 40 - (38 * x) / most;
  const bars = state.rows.map((row, i) => {
    const high = Math.max(0.4, 40 - y(-(row.logprob ?? 0)));
    return s("rect", { "data-i": i, x: i + 0.1, y: 40 - high, width: 0.8, height: high, class: row.part === last ? "answer" : "", click: () => choose(i) });
  });
  const line = state.rows.flatMap((row, i) => (row.entropy === undefined ? [] : [`${i + 0.1} ${y(row.entropy)} ${i + 0.9} ${y(row.entropy)}`]));
  one("strip").replaceChildren(
    s("svg", { viewBox: `0 0 ${n} 40`, preserveAspectRatio: "none", role: "img", "aria-label": "Surprise of each token" }, bars, s("path", { d: line.length ? `M${line.join("L")}` : "" })),
    h(
      "p",
      {},
      h("span", {}, h("span", { class: "swatch" }), "surprise, −log P"),
      " ",
      h("span", {}, h("span", { class: "swatch line" }), "what was expected, the entropy"),
      ` (0 to ${fixed(most, 1)} nats)`,
    ),
  );
  mark();
}

function mark() {
  for (const bar of document.querySelectorAll("#strip rect")) bar.classList.toggle("here", Number(bar.dataset.i) === state.here);
}

onChoice(showNext);
onChange(() => {
  clearTimeout(timer);
  timer = setTimeout(showNext, 60);
});
one("before").addEventListener("click", () => choose(state.here - 1));
one("after").addEventListener("click", () => choose(state.here + 1));
showNext();
