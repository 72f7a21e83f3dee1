// Tokens of a text: shaded by how likely they were, and one of them chosen.

import { fixed, h, inLine, isPart, one, percent, visible } from "./dom.js";

// rows: the tokens of the whole text, as /v1/inspect gives them; here: the number of the chosen one, or null.
export const state = { rows: [], here: null };
let chosen = () => {};
const shade = one("shade");

const HEAT = {
  logprob: (row) => -(row.logprob ?? 0) / 7,
  entropy: (row) => (row.entropy ?? 0) / 5,
  none: () => 0,
};

// The element of a token. i: its number among state.rows; without it the token is still being written.
export function tokenElement(row, i, asSign = false) {
  const part = isPart(row) && !asSign;
  const element = h("span", { class: part ? "t part" : "t" }, part ? "" : asSign ? visible(row) : inLine(row));
  heat(element, row);
  if (i === undefined) return element;
  element.dataset.i = i;
  element.tabIndex = -1;
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", `${visible(row)}, ${words(row).replace("\n", ", ")}`);
  return element;
}

function heat(element, row) {
  element.style.setProperty("--heat", Math.max(0, Math.min(1, HEAT[shade.value](row))).toFixed(3));
}

// What is known of a token, in words.
function words(row) {
  if (row.logprob === undefined || row.logprob === null) return "the first token: nothing comes before it";
  const rank = row.rank ? `, rank ${row.rank.toLocaleString("en")}` : "";
  const entropy = row.entropy === undefined ? "" : `\nentropy of its prediction ${fixed(row.entropy)}`;
  return `log P ${fixed(row.logprob)}, P ${percent(Math.exp(row.logprob))}${rank}${entropy}`;
}

export function onChoice(f) {
  chosen = f;
}

export const elementOf = (i) => document.querySelector(`#log [data-i="${i}"]`);

// Choose a token of the text, and show it as chosen.
export function choose(i, focus = false) {
  if (i !== null && !state.rows[i]) return;
  for (const old of document.querySelectorAll("#log .here, #log .followed")) {
    old.classList.remove("here", "followed");
    old.tabIndex = -1;
    old.removeAttribute("aria-current");
  }
  state.here = i;
  const element = i === null ? null : elementOf(i);
  if (element) {
    element.classList.add("here");
    element.tabIndex = 0;
    element.setAttribute("aria-current", "true");
    elementOf(i + 1)?.classList.add("followed");
    if (focus) element.focus();
  }
  chosen(i);
}

shade.addEventListener("change", () => state.rows.forEach((row, i) => elementOf(i) && heat(elementOf(i), row)));

one("log").addEventListener("click", (event) => {
  const i = event.target.closest?.("[data-i]")?.dataset.i;
  if (i === undefined || String(getSelection())) return;
  choose(Number(i));
  document.body.dataset.view === "talk" && matchMedia("(max-width: 900px)").matches && one("view-look").click();
});

one("log").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!event.target.dataset.i) return;
  if (event.key === "Enter" || event.key === " ") event.target.click();
  else if (step) choose(Number(event.target.dataset.i) + step, true);
  else return;
  event.preventDefault();
});

// The words beside the token under the pointer, or with the focus.
const tip = one("tip");
function showTip(event) {
  const element = event.target.closest?.("#log [data-i], #strip [data-i]");
  tip.hidden = !element;
  if (!element) return;
  const row = state.rows[Number(element.dataset.i)];
  tip.textContent = `${visible(row)}\n${words(row)}`;
  const box = element.getClientRects()[0];
  const width = tip.offsetWidth;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  tip.style.top = `${box.top > tip.offsetHeight + 10 ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}
document.addEventListener("pointerover", showTip);
document.addEventListener("focusin", showTip);
document.addEventListener("scroll", () => (tip.hidden = true), { capture: true, passive: true });
