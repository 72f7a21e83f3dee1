// The graph: steps and leaves as buttons, folded by module, over lines along which gradients flow.

const pane = document.getElementById("pane");
const board = document.getElementById("canvas");
const unfolded = new Set(); // paths of modules
const drawn = new Map(); // item -> its button

// Modules as groups within groups. A path whose parts are only numbered, such as "h" of h.0 and h.1, is not a group.
const tree = (() => {
  const root = { path: "", children: [], chain: [] };
  const groups = new Map([["", root]]);
  const steps = ledger.steps.filter((step) => step.module);
  const counts = new Map(); // of each prefix: the steps below it, and whether it has any that is not of a numbered part
  for (const { module } of steps) {
    const parts = module.split(".");
    for (let n = 1; n <= parts.length; n++) {
      const path = parts.slice(0, n).join(".");
      const known = counts.get(path) ?? { steps: 0, own: false };
      counts.set(path, { steps: known.steps + 1, own: known.own || !/^\d+$/.test(parts[n] ?? "") });
    }
  }
  const groupOf = (module) => {
    let group = root;
    const parts = module ? module.split(".") : [];
    for (let n = 1; n <= parts.length; n++) {
      const path = parts.slice(0, n).join(".");
      if (!counts.get(path)?.own || counts.get(path).steps === ledger.steps.length) continue;
      if (!groups.has(path)) {
        const label = path.slice(group.path ? group.path.length + 1 : 0);
        groups.set(path, { path, label, parent: group, children: [], chain: [...group.chain, group] });
        group.children.push(groups.get(path));
      }
      group = groups.get(path);
    }
    return group;
  };
  for (const one of [...ledger.steps, ...[...ledger.leaves].reverse()]) {
    const module = isStep(one) ? one.module : one.name.slice(0, Math.max(0, one.name.lastIndexOf(".")));
    one.group = groupOf(counts.has(module) ? module : "");
    one.chain = [...one.group.chain, one.group, one];
    one.group.children.push(one);
  }
  for (const group of groups.values()) {
    group.members = [...ledger.steps, ...ledger.leaves].filter((one) => one.chain.includes(group));
    group.steps = group.members.filter(isStep);
  }
  return { root, groups: [...groups.values()].filter((group) => group !== root) };
})();

const edges = ledger.steps.flatMap((from) =>
  [...new Set(from.inputs.filter((input) => input.contribution !== null).map((input) => byNumber.get(input.number)))]
    .filter(Boolean)
    .map((to) => ({ from, to })),
);
for (const to of ledger.steps) {
  // what was recomputed for a step hangs on it
  if (to.inside !== null && !uses.has(to.number) && byNumber.has(to.inside))
    edges.push({ from: byNumber.get(to.inside), to });
}

// The two lines of words in a box.
function wordsOf(item) {
  if (item.children) {
    if (item.steps.length === 1) return [item.label, item.steps[0].op];
    const parameters = item.members.length - item.steps.length;
    return [item.label, `${item.steps.length} steps${parameters ? `, ${plural(parameters, "parameter")}` : ""}`];
  }
  const scalar = item.shape.length === 0;
  if (!isStep(item))
    return [
      item.name.slice(item.group.path ? item.group.path.length + 1 : 0) || `#${item.number}`,
      scalar ? scalarText(item) : shapeText(item.shape),
    ];
  if (scalar) return [[item.op, item.name].filter(Boolean).join(" → "), scalarText(item)];
  return [item.op, [item.name, shapeText(item.shape)].filter(Boolean).join(" ")];
}

// The value of a single number and the gradient that has arrived there up to now: "2.718 · grad 0.9287".
function scalarText(item) {
  const value = arrayAt(item.value);
  const come = (uses.get(item.number) ?? []).filter(({ step }) => step.at <= state.at).at(-1)?.input.after;
  const gradient = item.number === ledger.root ? arrayAt(item.incoming) : come !== undefined ? arrayAt(come) : null;
  return `${value?.data ? brief(value.data[0]) : ""} · grad ${gradient?.data ? brief(gradient.data[0]) : "…"}`;
}

function sizeOf(item) {
  let [first, second] = wordsOf(item);
  if (item.shape?.length === 0) second = second.padEnd(19); // its gradient will come
  return {
    w: Math.max(64, Math.ceil(Math.max((first.length + (item.children ? 2 : 0)) * 8.2, second.length * 7)) + 16),
    h: 46,
  };
}

function drawGraph() {
  const focused = document.activeElement?.closest?.(".box")?.dataset.key;
  const { w, h: height, boxes, lines } = layOut(tree.root, edges, (group) => unfolded.has(group.path), sizeOf);
  board.style.width = `${w + 24}px`;
  board.style.height = `${height + 24}px`;
  const svg = board.querySelector("svg");
  svg.setAttribute("viewBox", `-12 -12 ${w + 24} ${height + 24}`);
  svg.replaceChildren(
    ...lines.map((line) => {
      line.path = s("path", { d: curve(line), "data-arrow": line.arrow });
      return line.path;
    }),
  );
  drawn.clear();
  board.replaceChildren(
    svg,
    ...boxes
      .map(({ item, x, y, w, h: tall, open }) => {
        const [first, second] = wordsOf(item);
        const kind = item.children ? (open ? "frame" : "folded") : isStep(item) ? "step" : "leaf";
        const key = item.children ? item.path : `#${item.number}`;
        const button = h(
          "button",
          {
            type: "button",
            class: `box ${kind}`,
            "data-key": key,
            tabindex: "-1",
            "aria-expanded": item.children ? String(open) : null,
            click: () => pick(item),
          },
          h("b", {}, first),
          open ? null : h("span", {}, second),
        );
        button.style.cssText = `left:${x + 12}px;top:${y + 12}px;width:${w}px;height:${open ? 26 : tall}px`;
        drawn.set(item, button);
        if (!open) return button;
        const frame = h("div", { class: "outline" });
        frame.style.cssText = `left:${x + 12}px;top:${y + 12}px;width:${w}px;height:${tall}px`;
        return [frame, button];
      })
      .flat(),
  );
  board.lines = lines;
  markGraph();
  if (focused !== undefined)
    (board.querySelector(`[data-key="${CSS.escape(focused)}"]`) ?? board.querySelector(".box")).focus({
      preventScroll: true,
    });
}

// A smooth line through its points, with an arrow's head where it ends at a box.
function curve({ points, arrow }) {
  const [x0, y0] = points[0];
  let [x, y] = points[1];
  const bend = (y - y0) / 2;
  let d = `M${x0},${y0}C${x0},${y0 + bend} ${x},${y - bend} ${x},${y}`;
  if (points[2]) (([x, y] = points[2]), (d += `V${y}`));
  return arrow ? `${d}M${x - 4},${y - 7}L${x},${y - 1}L${x + 4},${y - 7}` : d;
}

// The box that shows an item now: its own, or that of the module it is folded into.
const boxOf = (one) =>
  drawn.get(one) ??
  [...one.chain]
    .reverse()
    .map((group) => drawn.get(group))
    .find(Boolean);

// Say in the graph what has been walked, where the walk is, and where gradients flow now.
function markGraph() {
  const step = ledger.steps[state.at];
  for (const [item, button] of drawn) {
    const steps = item.children
      ? item.steps
      : isStep(item)
        ? [item]
        : (uses.get(item.number) ?? []).map((use) => use.step);
    button.classList.toggle(
      "done",
      steps.length > 0 && steps.every((one) => one.at < state.at + (isStep(item) || item.children ? 0 : 1)),
    );
    button.classList.remove("current");
    button.classList.toggle("chosen", item === state.leaf);
    button.removeAttribute("aria-current");
    if (button.classList.contains("folded") || item.shape?.length === 0)
      button.lastChild.textContent = wordsOf(item)[1];
    button.tabIndex = -1;
  }
  const here = boxOf(step);
  here.classList.add("current");
  here.setAttribute("aria-current", "step");
  here.tabIndex = 0;
  if (here.classList.contains("folded") && !here.lastChild.textContent.startsWith(step.op)) {
    const within = step.module.slice(here.dataset.key.length + 1);
    here.lastChild.textContent = `now ${[within, step.op].filter(Boolean).join(": ")}`;
  }
  for (const line of board.lines) {
    line.path.classList.toggle("flow", line.users.has(step));
    line.path.classList.toggle(
      "done",
      [...line.users].every((user) => user.at < state.at),
    );
  }
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  pane.scrollTo({
    left: here.offsetLeft + here.offsetWidth / 2 - pane.clientWidth / 2,
    behavior,
    top: here.offsetTop + here.offsetHeight / 2 - pane.clientHeight / 2,
  });
}

// What a click on a box does: a step is gone to, a leaf is chosen, a module folds or unfolds.
function pick(item) {
  if (item.children) {
    if (!unfolded.delete(item.path)) unfolded.add(item.path);
    drawGraph();
  } else if (isStep(item)) goTo(item.at);
  else choose(item);
}

// Up and down move among the boxes.
board.addEventListener("keydown", (event) => {
  const boxes = [...board.querySelectorAll(".box")];
  const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!move) return;
  event.preventDefault();
  boxes[(boxes.indexOf(document.activeElement) + move + boxes.length) % boxes.length].focus();
});
