// How elements, numbers and tokens are written.

export const one = (id) => document.getElementById(id);

// An element with attributes (functions are listeners) and children; texts stay texts.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const minus = (text) => String(text).replace("-", "−");
export const fixed = (x, digits = 2) => (Number.isFinite(x) ? minus(x.toFixed(digits)) : "∞");
export const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// A probability in percent, to two or three digits.
export function percent(p) {
  if (p === 0) return "0";
  if (p < 0.0001) return "<0.01%";
  return p >= 0.9995 ? "100%" : `${(100 * p).toFixed(p >= 0.0995 ? 1 : 2)}%`;
}

const SIGNS = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍" };
const sign = (c) => SIGNS[c] ?? (c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === "\x7f" ? "␡" : c);

// A token's text with its white space made visible; half a character as its bytes.
export function visible(row) {
  if (isPart(row)) return row.bytes ? `⟨${row.bytes.map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join(" ")}⟩` : "⟨…⟩";
  return row.token === "" ? "∅" : [...row.token].map(sign).join("");
}
export const isPart = (row) => row.token.includes("\ufffd");

// A token's text as it stands in a line: white space stays, but control characters are made visible.
export const inLine = (row) => [...row.token].map((c) => (c === "\n" ? "⏎\n" : c === " " || c === "\t" ? c : sign(c))).join("");
