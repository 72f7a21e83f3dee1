// Where the reader is, and all that moves them.

const state = { at: 0, leaf: null, timer: null };
const at = (id) => document.getElementById(id);

function goTo(i) {
  state.at = Math.max(0, Math.min(ledger.steps.length - 1, i));
  const step = ledger.steps[state.at];
  at("position").value = state.at + 1;
  at("position").setAttribute("aria-valuetext", `${state.at + 1}, ${step.op}`);
  at("count").textContent = `${state.at + 1} / ${ledger.steps.length}`;
  for (const id of ["first", "back"]) at(id).disabled = state.at === 0;
  for (const id of ["last", "next"]) at(id).disabled = state.at === ledger.steps.length - 1;
  showStep(step);
  showLeaf(state.leaf);
  markGraph();
  const receivers = step.inputs.filter((input) => input.contribution !== null).map((input) => input.name);
  at("live").textContent =
    `Step ${state.at + 1} of ${ledger.steps.length}: ${step.op}, ${labelOf(step)}, shape ${shapeText(step.shape)}. ` +
    `Adds to the gradient of ${receivers.join(", ")}.`;
}

// Choose a leaf: go to the last step that adds to it, and show it below.
function choose(leaf) {
  stop();
  state.leaf = leaf;
  goTo((uses.get(leaf.number) ?? []).at(-1)?.step.at ?? state.at);
  at("leaf").scrollIntoView({ block: "start" });
  at("leaf-title").focus({ preventScroll: true });
}

function showPlaying(playing) {
  at("play").classList.toggle("playing", playing);
  at("play").querySelector("span").textContent = playing ? "Pause" : "Play";
}

function stop() {
  clearInterval(state.timer);
  state.timer = null;
  showPlaying(false);
}

function play() {
  if (state.timer !== null) return stop();
  if (state.at === ledger.steps.length - 1) goTo(0);
  showPlaying(true);
  state.timer = setInterval(() => {
    goTo(state.at + 1);
    if (state.at === ledger.steps.length - 1) stop();
  }, 1200);
}

const moves = {
  first: () => 0,
  back: () => state.at - 1,
  next: () => state.at + 1,
  last: () => ledger.steps.length - 1,
};
for (const [id, where] of Object.entries(moves))
  at(id).addEventListener("click", () => {
    stop();
    goTo(where());
  });
at("play").addEventListener("click", play);
at("position").addEventListener("input", (event) => {
  stop();
  goTo(event.target.value - 1);
});

document.addEventListener("keydown", (event) => {
  const id = { ArrowLeft: "back", ArrowRight: "next" }[event.key];
  if (!id || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, .wide")) return;
  event.preventDefault();
  at(id).click();
});

// The box for jumping knows leaves and named steps.
const places = new Map();
for (const one of [...ledger.leaves, ...ledger.steps]) {
  const label = one.name || one.module ? labelOf(one) : nameOf(one);
  places.set(places.has(label) ? `${label} #${one.number}` : label, one);
}
at("names").replaceChildren(...[...places.keys()].map((value) => h("option", { value })));
at("jump").addEventListener("change", (event) => {
  const one = places.get(event.target.value.trim());
  event.target.setAttribute("aria-invalid", String(one === undefined));
  if (one === undefined) return;
  if (isStep(one)) {
    stop();
    goTo(one.at);
  } else choose(one);
});

for (const id of ["fold", "unfold"]) {
  at(id).hidden = tree.groups.length === 0;
  at(id).addEventListener("click", () => {
    unfolded.clear();
    if (id === "unfold") tree.groups.forEach((group) => unfolded.add(group.path));
    drawGraph();
  });
}

at("position").max = ledger.steps.length;
const part = ledger.steps.length < ledger.of ? ` of ${ledger.of}` : "";
at("summary").textContent =
  `${plural(ledger.steps.length, "step")}${part}, ${plural(ledger.leaves.length, "leaf", "leaves")}. ` +
  `Youngest first, each hands on what it gets, times its own derivative.`;
if (byNumber.size <= 30) tree.groups.forEach((group) => unfolded.add(group.path));
if (tree.groups.length === 0)
  document.querySelector(".hint").textContent = "The loss is at the top; gradients flow down.";
if (ledger.leaves.length && ledger.leaves.length <= 6) state.leaf = ledger.leaves[0];
drawGraph();
goTo(0);
document.documentElement.dataset.ready = "yes";
