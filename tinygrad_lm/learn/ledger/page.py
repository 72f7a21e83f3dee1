"""The ledger as a page: one HTML file that needs no network, nor anything else beside it.

    write_page(trace(lambda: ops.cross_entropy(model(tokens), targets)), "page.html")

The page is web/page.html with its style and scripts put in, and the ledger as JSON. Numbers travel as base64 of their
bytes, so the page shows exactly what the ledger holds, and each run of bytes once, however many arrays consist of it.
"""

import base64
import html
import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.errors import ConfigError

SCRIPTS = ("data.js", "formula.js", "arrays.js", "layout.js", "graph.js", "paths.js", "step.js", "app.js")
LARGE = 4_000_000  # characters of a page that a notebook shows


def write_page(ledger, path, title="A backward pass"):
    """Write the page of a Ledger to a file; return its Path."""
    path = Path(path)
    path.write_text(page(ledger, title), encoding="utf-8")
    return path


def page(ledger, title="A backward pass"):
    """The page of a Ledger, as text. ConfigError if it has no step."""
    if not ledger.steps:
        raise ConfigError("page: the ledger has no step to show\n  hint : a filter, such as `where`, may fit none")
    parts = {
        "title": html.escape(title),
        "style": read("style.css"),
        "script": "\n".join(map(read, SCRIPTS)),
        "ledger": embed(to_json(ledger)),
    }
    return filled(read("page.html"), parts)


def folded(ledger, summary):
    """The page of a Ledger in an element that unfolds it, for a notebook; the summary is seen before."""
    head = html.escape(summary)
    if not ledger.steps:
        return f"<p>{head}</p>"
    text = page(ledger)
    if len(text) > LARGE:  # a notebook keeps what it shows
        size = f"its page has {len(text) / 1e6:.0f} MB: write_page(ledger, 'page.html') writes it to a file"
        return f"<p>{head}<br>{html.escape(size)}; ledger.where(name=…, op=…) selects steps</p>"
    quoted = text.replace("&", "&amp;").replace("'", "&#39;")
    return (
        f'<details><summary style="cursor: pointer">{head}</summary><iframe title="{head}" loading="lazy" '
        f"style=\"width: 100%; height: 44em; border: 1px solid #808080\" srcdoc='{quoted}'></iframe></details>"
    )


def read(name):
    """The text of a file in web/."""
    return (files("tinygrad_lm.learn.ledger") / "web" / name).read_text(encoding="utf-8")


def filled(text, parts):
    """A page's text with parts[name] where {{name}} stands; what is put in is not searched for places."""
    head, *rest = text.split("{{")
    for part in rest:
        name, _, after = part.partition("}}")
        head += parts[name] + after
    return head


def embed(data):
    """JSON that may stand in a <script>: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_json(ledger):
    """A Ledger as what JSON can hold: arrays are places in `arrays`, whose numbers are places in `numbers`."""
    pool = Pool()
    steps = [
        {
            "number": step.number,
            "op": step.op,
            "forward": step.forward,
            "backward": step.backward,
            "name": step.name,
            "module": step.module,
            "shape": step.shape,
            "dtype": step.dtype,
            "callers": [[line.place, line.text] for line in step.callers],
            "options": step.options,
            "constants": step.constants,
            "saved": {name: pool.snapshot(x) for name, x in step.saved.items()},
            "value": pool.snapshot(step.value),
            "incoming": pool.snapshot(step.incoming),
            "inputs": [input_json(input, pool) for input in step.inputs],
            "held": [step.held_before, step.held_after],
            "depth": step.depth,
            "inside": step.inside,
        }
        for step in ledger.steps
    ]
    leaves = [
        {"number": leaf.number, "name": leaf.name, "shape": leaf.shape, "inside": leaf.inside}
        | {name: pool.snapshot(getattr(leaf, name)) for name in ("value", "before", "grad")}
        for leaf in ledger.leaves
    ]
    arrays, numbers = list(pool.arrays), list(pool.numbers)
    return {
        "root": ledger.root,
        "of": ledger.of,
        "steps": steps,
        "leaves": leaves,
        "arrays": [json.loads(array) for array in arrays],
        "numbers": numbers,
    }


def input_json(input, pool):
    return {
        "name": input.name,
        "number": input.number,
        "shape": input.shape,
        "local": pool.array(input.local),
    } | {name: pool.snapshot(getattr(input, name)) for name in ("value", "contribution", "before", "after")}


class Pool:
    """Arrays and runs of numbers, each kept once; the methods give an array's place, None for None."""

    def __init__(self):
        self.arrays, self.numbers = {}, {}

    def snapshot(self, x):
        if x is None:
            return None
        facts = {name: finite(getattr(x, name)) for name in ("norm", "low", "high", "mean")}
        facts |= {"dtype": x.dtype, "bytes": x.bytes, "wild": x.wild, "histogram": x.histogram}
        return self.place(x.shape, x.array, facts)

    def array(self, x):
        return None if x is None else self.place(x.shape, x, {"dtype": str(x.dtype)})

    def place(self, shape, x, facts):
        kind, numbers = None, None
        if x is not None and x.dtype.kind != "c" and (x.dtype.kind in "biu" or is_floating(x.dtype)):
            kind = "f4" if is_floating(x.dtype) and x.dtype.itemsize <= 4 else "f8"
            text = base64.b64encode(np.ascontiguousarray(x, "<" + kind).tobytes()).decode()
            numbers = self.numbers.setdefault(text, len(self.numbers))
        key = json.dumps({"shape": shape, "kind": kind, "numbers": numbers} | facts)
        return self.arrays.setdefault(key, len(self.arrays))


def finite(x):
    """A number as JSON can say it."""
    return x if math.isfinite(x) else "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"
