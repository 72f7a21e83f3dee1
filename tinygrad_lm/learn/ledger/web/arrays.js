// Arrays as pictures: small ones as tables of coloured numbers, middling ones as heat maps, large ones as histograms.

const dark = matchMedia("(prefers-color-scheme: dark)");
const redraws = new Set(); // of the heat maps on the page, for a change of colours
dark.addEventListener("change", () => redraws.forEach((draw) => draw()));

const MIDDLE = () => (dark.matches ? [34, 38, 46] : [246, 244, 239]);
const BELOW = () => (dark.matches ? [78, 161, 255] : [32, 92, 176]);
const ABOVE = () => (dark.matches ? [255, 136, 77] : [196, 66, 20]);

// The colour of x between −extreme and extreme, around 0.
function colour(x, extreme) {
  if (!Number.isFinite(x)) return [160, 60, 200];
  const share = extreme > 0 ? Math.min(1, Math.abs(x) / extreme) : 0;
  const end = x < 0 ? BELOW() : ABOVE();
  return MIDDLE().map((c, i) => Math.round(c + (end[i] - c) * share));
}
const css = (rgb) => `rgb(${rgb.join(" ")})`;

// Black or white, whichever is read better on a colour.
function ink(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

// The greatest size of an array's finite entries: what the ends of the colours stand for.
function greatest(array) {
  return array?.data?.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0) ?? 0;
}

// A single number, short, with all of it at hand.
function number(array) {
  const full = exact(array.data[0], array.kind);
  return h("span", { class: "number", title: full, "data-number": full }, brief(array.data[0]));
}

// How many entries go side by side: those of the last axis, or of several where that would be a narrow tower.
function columnsOf(array) {
  let columns = array.shape.at(-1) || 1;
  for (let axis = array.shape.length - 2; axis >= 0 && array.size / columns > 4 * columns; axis--)
    columns *= array.shape[axis];
  return columns;
}

// An array with its title. `name` is what its entries are called; `choose`, if given, is called with a chosen entry's
// place; `extreme` is the number at the ends of the colours; `width` the most that a heat map takes; `shape`: say it.
function figure(title, array, name, { choose = null, extreme = greatest(array), width = 320, shape = true } = {}) {
  if (array === null) return null;
  const caption = h(
    "figcaption",
    {},
    title,
    shape ? [" ", h("span", { class: "shape" }, shapeText(array.shape))] : null,
  );
  if (array.data === null) return h("figure", { class: "array" }, caption, statistics(array));
  if (array.size === 1 && !choose) return h("figure", { class: "array" }, caption, number(array));
  const columns = array.shape.at(-1) ?? 1;
  const small = array.size <= 48 && columns <= 6;
  return h(
    "figure",
    { class: "array" },
    caption,
    small ? table(array, name, choose, extreme) : heatMap(array, name, choose, extreme, width),
  );
}

// All numbers as a table, a row for each stretch of the last axis; what a heat map shows, for those who cannot see it.
function table(array, name, choose, extreme) {
  const columns = array.shape.at(-1) ?? 1;
  const rows = [];
  for (let start = 0; start < array.size; start += columns) {
    const lead =
      array.shape.length > 1 ? h("th", { scope: "row" }, indexText(start / columns, array.shape.slice(0, -1))) : null;
    const cells = [];
    for (let k = start; k < start + columns; k++) cells.push(cell(array, name, k, choose, extreme));
    rows.push(h("tr", {}, lead, cells));
  }
  const head = h(
    "tr",
    {},
    array.shape.length > 1 ? h("td") : null,
    Array.from({ length: columns }, (_, i) => h("th", { scope: "col" }, i)),
  );
  const body = h("table", { class: "numbers" }, columns > 1 ? h("thead", {}, head) : null, h("tbody", {}, rows));
  return h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": `${name}, all numbers` }, body);
}

function cell(array, name, k, choose, extreme) {
  const x = array.data[k];
  const full = exact(x, array.kind);
  const rgb = colour(x, extreme);
  const style = `background:${css(rgb)};color:${ink(rgb)}`;
  const entry = array.shape.length ? `${name}[${indexText(k, array.shape)}]` : name;
  const inside = choose
    ? h("button", { type: "button", "aria-label": `${entry} = ${full}: its paths`, click: () => choose(k) }, brief(x))
    : brief(x);
  return h("td", { style, title: `${entry} = ${full}`, "data-number": full }, inside);
}

// A canvas with a cursor: the entry under the mouse, or under the arrow keys, is written out below.
function heatMap(array, name, choose, extreme, width) {
  const columns = columnsOf(array);
  const rows = array.size / columns || 1;
  const size = Math.min(16, width / columns, 320 / rows);
  const canvas = h("canvas", {
    width: columns,
    height: rows,
    tabindex: "0",
    role: "img",
    "aria-label": `${name}, ${shapeText(array.shape)}. Arrow keys read its entries; its extremes and a table follow.`,
    style: `width:${Math.max(16, columns * size)}px;aspect-ratio:${columns}/${rows}`,
  });
  const told = h("output", { class: "entry" }, "\u00a0");
  const draw = () => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    array.data.forEach((x, k) => image.data.set([...colour(x, extreme), 255], 4 * k));
    context.putImageData(image, 0, 0);
  };
  let at = -1;
  const tell = (k) => {
    at = Math.max(0, Math.min(array.size - 1, k));
    told.textContent = `${name}[${indexText(at, array.shape)}] = ${minus(exact(array.data[at], array.kind))}`;
  };
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const part = (x, width, n) => Math.max(0, Math.min(n - 1, Math.floor((x / width) * n)));
    return (
      part(event.clientY - box.top, box.height, rows) * columns + part(event.clientX - box.left, box.width, columns)
    );
  };
  canvas.addEventListener("pointermove", (event) => tell(under(event)));
  canvas.addEventListener("click", (event) => {
    tell(under(event));
    choose?.(at);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (move !== undefined) tell(at < 0 ? 0 : at + move);
    else if (event.key === "Enter" && choose && at >= 0) choose(at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  draw();
  redraws.add(draw);
  const all = h("details", { class: "all" }, h("summary", {}, "As a table"));
  all.addEventListener("toggle", () => {
    if (all.open && all.childElementCount === 1) all.append(table(array, name, choose, extreme));
  });
  return h("div", { class: "map" }, canvas, legend(array, extreme, width), all, told);
}

const least = (array) => array.data.reduce((a, b) => Math.min(a, b), Infinity);
const most = (array) => array.data.reduce((a, b) => Math.max(a, b), -Infinity);

function legend(array, extreme, width) {
  const low = array.low ?? least(array);
  const high = array.high ?? most(array);
  const share = (x) => Math.round(100 * Math.min(1, Math.abs(x) / (extreme || 1)));
  const shade = (x) => `color-mix(in srgb,var(${x < 0 ? "--below" : "--above"}) ${share(x)}%,var(--middle))`;
  const zero = low < 0 && high > 0 ? `var(--middle) ${Math.round((100 * low) / (low - high))}%,` : "";
  return h(
    "div",
    { class: "legend", style: `max-width:${width}px` },
    h("span", {}, brief(low)),
    h("span", { class: "scale", style: `background:linear-gradient(90deg,${shade(low)},${zero}${shade(high)})` }),
    h("span", {}, brief(high)),
  );
}

// What is kept of an array that is too large to be kept whole.
function statistics(array) {
  const top = Math.max(1, ...(array.histogram ?? []));
  const bars = (array.histogram ?? []).map((n, i) =>
    s("rect", { x: i * 12 + 1, width: 10, y: 48 - (46 * n) / top, height: (46 * n) / top }),
  );
  const facts = [
    ["norm", array.norm],
    ["mean", array.mean],
    ["least", array.low],
    ["greatest", array.high],
  ];
  const words = facts.map(([name, x]) => `${name} ${brief(x)}`).join(", ");
  return h(
    "div",
    { class: "statistics" },
    s(
      "svg",
      {
        viewBox: "0 0 194 49",
        width: 194,
        height: 49,
        role: "img",
        "aria-label": `histogram: ${array.histogram}; ${words}`,
      },
      bars,
      s("line", { x1: 0, x2: 194, y1: 48.5, y2: 48.5 }),
    ),
    h(
      "dl",
      {},
      facts.map(([name, x]) => h("div", {}, h("dt", {}, name), h("dd", {}, brief(x)))),
    ),
    array.wild ? h("p", { class: "warning" }, `${array.wild} not finite`) : null,
  );
}
