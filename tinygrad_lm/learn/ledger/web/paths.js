// The chosen leaf; and of one entry of it all ways to the loss, with the product of the local derivatives along each.
//
// ∂loss/∂x[k] = Σ over ways Π of ∂y[j]/∂x[i] along the way. The ledger's local derivatives say which entries hang
// together.

const MOST = 200; // ways that are listed

// The ways on from entry k of a number: [{step, input, entry of the step's value, derivative}]; null if one is unknown.
function onward(number, k) {
  const found = [];
  for (const { step, input } of uses.get(number) ?? []) {
    const local = arrayAt(input.local);
    if (local === null || local.data === null || step.inside !== null) return null;
    const columns = input.shape.reduce((a, b) => a * b, 1);
    for (let j = 0; j * columns < local.size; j++) {
      if (local.data[j * columns + k] !== 0)
        found.push({ step, input, entry: j, derivative: local.data[j * columns + k] });
    }
  }
  return found;
}

// {count, sum} over all ways from entry k of a number to the loss; null where a local derivative was not kept.
function total(number, k, known = new Map()) {
  if (number === ledger.root) return { count: 1, sum: 1 };
  const key = `${number} ${k}`;
  if (!known.has(key)) {
    const result = { count: 0, sum: 0 };
    known.set(key, result);
    const ways = onward(number, k);
    if (ways === null) known.set(key, null);
    for (const { step, entry, derivative } of ways ?? []) {
      const rest = total(step.number, entry, known);
      if (rest === null) {
        known.set(key, null);
        break;
      }
      result.count += rest.count;
      result.sum += derivative * rest.sum;
    }
  }
  return known.get(key);
}

// The first ways, each a list of what `onward` gives.
function waysFrom(number, k, most) {
  const found = [];
  const walk = (number, k, way) => {
    if (found.length >= most) return;
    if (number === ledger.root) {
      found.push(way);
      return;
    }
    for (const link of onward(number, k)) walk(link.step.number, link.entry, [...way, link]);
  };
  walk(number, k, []);
  return found;
}

const entryText = (one, k) => (one.shape.length ? `${nameOf(one)}[${indexText(k, one.shape)}]` : nameOf(one));

// The list of ways of one entry of a leaf, as it stands on the page.
function pathsOf(leaf, k) {
  const all = total(leaf.number, k);
  const grad = arrayAt(leaf.grad);
  const entry = entryText(leaf, k);
  const title = h("h3", { id: "paths-title", tabindex: "-1" }, "Paths of ", h("code", {}, entry), " to the loss");
  if (ledger.steps.length < ledger.of)
    return [title, h("p", {}, "This page shows a part of the walk; paths need all of it.")];
  if (all === null) {
    return [
      title,
      h(
        "p",
        {},
        "Its paths cannot be listed: a local derivative on the way was too large to be kept, ",
        "or the way leads through a recomputation. ",
        h("code", {}, "trace(…, local=…)"),
        " sets how large they may be.",
      ),
    ];
  }
  const rows = waysFrom(leaf.number, k, MOST).map((way) => {
    const product = way.reduce((p, hop) => p * hop.derivative, 1);
    return h(
      "tr",
      {},
      h(
        "td",
        { class: "way" },
        h("code", {}, entry),
        way.map((hop) => [
          " → ",
          link(
            hop.step.number === ledger.root ? "loss" : entryText(hop.step, hop.entry),
            () => goTo(hop.step.at),
            `${hop.step.op}: ∂/∂${hop.input.name} = ${hop.derivative}`,
          ),
        ]),
      ),
      h(
        "td",
        { class: "product" },
        way.map((hop, i) => [i ? " · " : "", brief(hop.derivative)]),
      ),
      h("td", { class: "figure", "data-number": String(product) }, brief(product)),
    );
  });
  return [
    title,
    h(
      "p",
      {},
      `${plural(all.count, "path")}. Along each, local derivatives multiply; `,
      "over all paths the products add up to the gradient.",
    ),
    h(
      "div",
      { class: "wide", tabindex: "0", role: "group", "aria-label": "Paths" },
      h(
        "table",
        { class: "paths" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "path"),
            h("th", { scope: "col" }, "local derivatives"),
            h("th", { scope: "col" }, "product"),
          ),
        ),
        h("tbody", {}, rows),
        h(
          "tfoot",
          {},
          all.count > rows.length
            ? h("tr", {}, h("td", { colspan: 3 }, `… and ${all.count - rows.length} more`))
            : null,
          h(
            "tr",
            {},
            h("th", { scope: "row", colspan: 2 }, "sum of all products"),
            h("td", { class: "figure", id: "sum", "data-number": String(all.sum) }, brief(all.sum)),
          ),
          h(
            "tr",
            {},
            h("th", { scope: "row", colspan: 2 }, "∂loss/∂", entry, " in the ledger"),
            h("td", { class: "figure" }, grad?.data ? brief(grad.data[k] - (arrayAt(leaf.before)?.data[k] ?? 0)) : ""),
          ),
        ),
      ),
    ),
  ];
}

// The chosen leaf: its value, its gradient, who added to it; and the paths of one entry.
function showLeaf(leaf) {
  const place = document.getElementById("leaf");
  place.hidden = leaf === null;
  if (leaf === null) return;
  const name = nameOf(leaf);
  const grad = arrayAt(leaf.grad);
  const paths = h("div", { id: "paths" });
  const list = (k) => {
    paths.replaceChildren(...pathsOf(leaf, k));
  };
  place.replaceChildren(
    ...[
      h("p", { class: "where" }, "Leaf of the graph"),
      h(
        "h2",
        { tabindex: "-1", id: "leaf-title" },
        h("code", {}, labelOf(leaf)),
        " ",
        h("span", { class: "shape" }, shapeText(leaf.shape)),
      ),
      h(
        "p",
        {},
        "Its gradient is the sum of what ",
        (uses.get(leaf.number) ?? []).map(({ step }, i) => [
          i ? ", " : "",
          link(`${step.op} #${step.number}`, () => goTo(step.at)),
        ]),
        arrayAt(leaf.before)?.norm ? " handed it, and what it held before." : " handed it.",
      ),
      h(
        "div",
        { class: "row" },
        figure("value", arrayAt(leaf.value), name),
        figure(grad?.data ? "gradient: choose an entry" : "gradient", grad, `d${name}`, {
          choose: grad?.data ? list : null,
        }),
      ),
      paths,
    ].filter(Boolean),
  );
  if (grad?.data) list(grad.data.reduce((best, x, k) => (Math.abs(x) > Math.abs(grad.data[best]) ? k : best), 0));
}
