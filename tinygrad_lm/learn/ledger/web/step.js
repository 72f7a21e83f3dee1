// The current step in words, formulas and arrays.

const peak = Math.max(1, ...ledger.steps.flatMap((step) => step.held));

function showStep(step) {
  redraws.clear();
  const place = document.getElementById("step");
  const y = step.number === ledger.root ? "loss" : step.name || "y";
  const [source, ...callers] = step.callers;
  place.replaceChildren(
    ...[
      h(
        "p",
        { class: "where" },
        `Step ${state.at + 1} of ${ledger.steps.length}: operation #${step.number}`,
        step.module ? [" in ", h("code", {}, step.module)] : null,
        `, ${step.depth === 0 ? "the loss itself" : `${plural(step.depth, "step")} from the loss`}`,
      ),
      h(
        "h2",
        { id: "step-title" },
        step.op,
        step.name ? h("span", { class: "name" }, " → ", h("code", {}, step.name)) : null,
        " ",
        h("span", { class: "shape" }, `${shapeText(step.shape)} ${step.dtype}`),
      ),
      step.inside ? h("p", { class: "note" }, `Recomputed for step #${step.inside}.`) : null,
      source
        ? h("div", { class: "source" }, h("code", {}, source[1] || "(source not at hand)"), h("cite", {}, source[0]))
        : null,
      callers.length
        ? h(
            "details",
            { class: "callers" },
            h("summary", {}, `Called through ${plural(callers.length, "line")}`),
            h(
              "ol",
              {},
              callers.map(([place, text]) => h("li", {}, h("code", {}, text), " ", h("cite", {}, place))),
            ),
          )
        : null,
      h(
        "dl",
        { class: "rule" },
        h("div", {}, h("dt", {}, "forward"), h("dd", {}, formula(step.forward))),
        h("div", {}, h("dt", {}, "backward"), h("dd", {}, formula(step.backward))),
      ),
      Object.keys(step.options).length
        ? h(
            "p",
            { class: "options" },
            "with ",
            Object.entries(step.options).map(([name, text], i) => [i ? ", " : "", h("code", {}, `${name}=${text}`)]),
          )
        : null,
      h("h3", {}, "What arrives"),
      h(
        "div",
        { class: "row" },
        figure(["the value ", h("var", {}, "y")], arrayAt(step.value), y),
        figure(["its gradient ", h("var", {}, "dy"), " = ∂loss/∂", h("var", {}, "y")], arrayAt(step.incoming), `d${y}`),
      ),
      h("h3", {}, "What it hands on"),
      step.inputs.map((input) => showInput(step, input)),
      showSaved(step),
      showMemory(step),
    ]
      .flat(Infinity)
      .filter(Boolean),
  );
}

function showInput(step, input) {
  const to = input.number === null ? null : byNumber.get(input.number);
  const value = arrayAt(input.value);
  const single = value?.data && value.shape.length === 0 ? [" = ", number(value)] : null;
  const title = h(
    "h4",
    {},
    h("var", {}, input.name),
    to
      ? [" = ", link(labelOf(to), () => (isStep(to) ? goTo(to.at) : choose(to)))]
      : input.number !== null
        ? ` = #${input.number}`
        : null,
    single,
    " ",
    h("span", { class: "shape" }, shapeText(input.shape)),
  );
  if (input.contribution === null) {
    return h(
      "article",
      { class: "input quiet" },
      title,
      h("p", {}, "No gradient is wanted here."),
      !single && value && value.size <= 16 ? figure("value", value, input.name) : null,
    );
  }
  const [before, added, after, local] = [input.before, input.contribution, input.after, input.local].map(arrayAt);
  const extreme = Math.max(...[before, added, after].map(greatest));
  const name = `d${input.name}`;
  const several = uses.get(input.number);
  const place =
    several.length > 1
      ? `contribution ${several.findIndex((use) => use.input === input) + 1} of ${several.length} to `
      : "all of ";
  const slope = ["∂", h("var", {}, "y"), "/∂", h("var", {}, input.name)];
  const simple = local?.data && local.size === 1; // then the chain rule is one product
  const sign = (text, word) => h("span", { class: "sign", role: "img", "aria-label": word }, text);
  const show = (title, array, name) => figure(title, array, name, { extreme, width: 210, shape: false });
  return h(
    "article",
    { class: "input" },
    h(
      "div",
      { class: "head" },
      title,
      h("p", { class: "fan" }, place, h("code", {}, `${to ? labelOf(to) : input.name}.grad`)),
    ),
    simple
      ? h(
          "div",
          { class: "row sum" },
          figure(h("var", {}, "dy"), arrayAt(step.incoming), "dy"),
          sign("×", "times"),
          figure(slope, local, "slope"),
          sign("=", "equals"),
          figure(h("var", {}, name), added, name),
        )
      : null,
    before || !simple
      ? h(
          "div",
          { class: "row sum" },
          before ? [show("before", before, "before"), sign("+", "plus")] : null,
          show(h("var", {}, name), added, name),
          before ? [sign("=", "equals"), show("after", after, "after")] : null,
        )
      : null,
    !single && (value || local)
      ? h(
          "details",
          {},
          h("summary", {}, value && local ? "Value and local derivative" : value ? "Value" : "Local derivative"),
          h(
            "div",
            { class: "row" },
            figure("value", value, to ? nameOf(to) : input.name),
            simple ? null : figure(["local derivative ", slope], local, `∂y/∂${input.name}`),
          ),
        )
      : null,
  );
}

function showSaved(step) {
  const names = Object.keys(step.saved);
  if (!names.length)
    return [h("h3", {}, "Saved since the forward pass"), h("p", {}, "No array: the backward pass needs none.")];
  const bytes = names.reduce((sum, name) => sum + arrayAt(step.saved[name]).bytes, 0);
  return [
    h("h3", {}, "Saved since the forward pass"),
    h("p", {}, `${plural(names.length, "array")}, ${bytesText(bytes)}.`),
    names.map((name) => {
      const array = arrayAt(step.saved[name]);
      const details = h(
        "details",
        {},
        h(
          "summary",
          {},
          h("code", {}, name),
          " ",
          h("span", { class: "shape" }, `${shapeText(array.shape)} ${array.dtype}, ${bytesText(array.bytes)}`),
        ),
      );
      details.addEventListener("toggle", () => {
        if (details.open && details.childElementCount === 1) details.append(figure("", array, name));
      });
      return details;
    }),
  ];
}

function showMemory(step) {
  const [before, after] = step.held;
  const width = 100 / ledger.steps.length;
  const bars = ledger.steps.map((one, i) =>
    s("rect", {
      x: i * width,
      width: Math.max(0.2, width * 0.85),
      y: 40 - (40 * one.held[0]) / peak,
      height: (40 * one.held[0]) / peak,
      class: i === state.at ? "now" : i < state.at ? "past" : "",
    }),
  );
  const bar = (name, n) =>
    h(
      "div",
      { class: "held" },
      h("span", {}, name),
      h("div", { class: "track" }, h("div", { style: `width:${(100 * n) / peak}%` })),
      h("span", { class: "figure" }, bytesText(n)),
    );
  return [
    h("h3", {}, "Memory the graph keeps alive"),
    h(
      "div",
      { class: "memory" },
      bar("before", before),
      bar("after", after),
      s(
        "svg",
        {
          viewBox: "0 0 100 40",
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `Memory held before each step; here ${bytesText(before)} of at most ${bytesText(peak)}`,
        },
        bars,
      ),
    ),
  ];
}
