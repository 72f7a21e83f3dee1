// The settings of sampling, each with what it means.

import { h, one } from "./dom.js";

const SLIDERS = [
  ["temperature", "Temperature", 0, 2, 0.05, 0.8, 1, "below 1 likely tokens get likelier; 0 always takes the likeliest"],
  ["top_k", "Top-k", 0, 50, 1, 0, 0, "draw among the k likeliest; 0: among all"],
  ["top_p", "Top-p", 0.05, 1, 0.01, 1, 1, "draw among the likeliest that together have this probability"],
  ["min_p", "Min-p", 0, 0.5, 0.01, 0, 0, "draw among those with this share of the likeliest's probability"],
];
const inputs = {};
let changed = () => {};

for (const [name, label, min, max, step, value, , meaning] of SLIDERS) {
  const number = h("input", { type: "number", id: name, min, step, value, "aria-label": `${label}, as a number` });
  if (name !== "top_k" && name !== "temperature") number.max = max;
  const range = h("input", { type: "range", min, max, step, value, "aria-label": label });
  range.addEventListener("input", () => set(name, range.value));
  number.addEventListener("input", () => {
    range.value = number.value;
    changed();
  });
  inputs[name] = { number, range };
  one("settings").append(h("div", { class: "setting", title: `${label}: ${meaning}` }, h("span", {}, label), range, number));
}
const tokens = h("input", { type: "number", id: "tokens", min: 1, step: 1, value: 200, "aria-label": "Longest answer, in tokens" });
const seed = h("input", { type: "text", id: "seed", inputmode: "numeric", placeholder: "any", "aria-label": "Seed" });
one("settings").append(
  h("div", { class: "setting", title: "The answer is cut off after so many tokens" }, h("span", { class: "wide" }, "Tokens, at most"), tokens),
  h("div", { class: "setting", title: "The same seed draws the same text" }, h("span", { class: "wide" }, "Seed"), seed),
);

function set(name, value) {
  inputs[name].number.value = inputs[name].range.value = value;
  changed();
}

one("plain").addEventListener("click", () => {
  for (const [name, , , , , , neutral] of SLIDERS) set(name, neutral);
});

// Calls f whenever a setting of the distribution changes.
export function onChange(f) {
  changed = f;
}

// What makes of the model's distribution the one that is drawn from.
export function sampling() {
  return Object.fromEntries(SLIDERS.map(([name, , , , , value]) => [name, numberOr(inputs[name].number.value, value)]));
}

// The settings of a whole answer.
export function writing() {
  const chosen = /^\d+$/.test(seed.value.trim()) ? { seed: Number(seed.value) } : {};
  return { ...sampling(), ...chosen, max_tokens: numberOr(tokens.value, 200) };
}

const numberOr = (text, otherwise) => (text.trim() === "" || !Number.isFinite(Number(text)) ? otherwise : Number(text));
