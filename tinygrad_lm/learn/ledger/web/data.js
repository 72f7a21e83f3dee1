// What the page knows: the ledger's JSON, its arrays, and how numbers and elements are made.

const ledger = JSON.parse(document.getElementById("ledger").textContent);
const byNumber = new Map([...ledger.steps, ...ledger.leaves].map((one) => [one.number, one]));
ledger.steps.forEach((step, i) => {
  step.at = i;
});
const isStep = (one) => one.op !== undefined;

// The steps that add to the gradient of a number, in the order they add.
const uses = new Map();
for (const step of ledger.steps) {
  for (const input of step.inputs) {
    if (input.number === null || input.contribution === null) continue;
    if (!uses.has(input.number)) uses.set(input.number, []);
    uses.get(input.number).push({ step, input });
  }
}

// Of a part of a walk, the leaves that it comes to.
if (ledger.steps.length < ledger.of) ledger.leaves = ledger.leaves.filter((leaf) => uses.has(leaf.number));

// An array of the ledger by its place; `data` is decoded when it is first wanted. null stays null.
function arrayAt(place) {
  if (place === null) return null;
  const array = ledger.arrays[place];
  if (array.data === undefined) {
    array.size = array.shape.reduce((a, b) => a * b, 1);
    array.data = null;
    if (array.numbers !== null) {
      const bytes = Uint8Array.from(atob(ledger.numbers[array.numbers]), (c) => c.charCodeAt(0));
      array.data = array.kind === "f4" ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
    }
  }
  return array;
}

// The index of entry k of a shape, as text: 17 of (4, 5) is "3, 2".
function indexText(k, shape) {
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(k % shape[axis]);
    k = Math.floor(k / shape[axis]);
  }
  return index.join(", ");
}

const minus = (text) => String(text).replace(/-/g, "−");

// A number to four digits, for reading.
function brief(x) {
  x = Number(x);
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "∞" : "−∞";
  if (x === 0 || (Number.isInteger(x) && Math.abs(x) < 1e5)) return minus(x);
  const size = Math.abs(x);
  return minus(size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(4))) : x.toExponential(2));
}

// A number with all the digits that tell it from its neighbours.
function exact(x, kind) {
  if (kind === "f4" && Number.isFinite(x)) {
    for (let digits = 1; digits <= 9; digits++) {
      const short = Number(x.toPrecision(digits));
      if (Math.fround(short) === x) return String(short);
    }
  }
  return String(x);
}

// A shape as Python writes it; a single number has none worth telling.
const shapeText = (shape) => (!shape?.length ? "" : shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);

function bytesText(n) {
  if (n < 1000) return `${n} B`;
  return n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`;
}

const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// What a step or leaf is called: its name, or what made it and its number.
const nameOf = (one) => one.name || (isStep(one) ? `${one.op} #${one.number}` : `leaf #${one.number}`);
const labelOf = (one) => [one.module, one.name].filter(Boolean).join(":") || nameOf(one);

// An element with attributes (functions are listeners) and children; texts stay texts.
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
const SVG = document.querySelector("svg").namespaceURI;
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

// Words that lead somewhere.
const link = (text, click, title = null) => h("button", { type: "button", class: "link", click, title }, text);
