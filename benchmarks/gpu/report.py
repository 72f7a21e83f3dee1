"""The findings of a visit as text: a line each, a table of all, and the answers to what was asked."""

import json
from contextlib import suppress

HIDDEN = ("part", "item", "begun", "trace", "output", "took", "rows", "table", "curve")


def read(path, begun=False):
    """The findings in a file, in order; with `begun` also the lines that only say that something began."""
    if not path.exists():
        return []
    records = []
    for text in path.read_text().splitlines():
        with suppress(ValueError):  # a line that was cut short by a kill
            records.append(json.loads(text))
    return [record for record in records if begun or not record.get("begun")]


def line(record):
    shown = {key: value for key, value in record.items() if key not in HIDDEN}
    return f"{record['part']}: {record['item']}: " + ", ".join(f"{key} {short(value)}" for key, value in shown.items())


def short(value):
    match value:
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case list():
            return " ".join(short(x) for x in value[:3]) + " …" * (len(value) > 3)
        case str():
            return value.splitlines()[0][:200] if value else value
    return str(value)


def table(found):
    """The findings of each part below each other; those with the same keys share a heading."""
    lines, heading = [], None
    for record in found:
        keys = [key for key in record if key not in HIDDEN]
        if heading != (heading := (record["part"], keys)):
            lines += ["", f"{record['part']:36}" + "".join(f" {key:>15}" for key in keys)]
        lines.append(f"{record['item']:36}" + "".join(f" {short(record[key]):>15}" for key in keys))
        lines += [record["table"]] if "table" in record else []
    return "\n".join(lines)


def answers(found):
    """What the visit was asked, what is wanted, and what was found."""
    by = {(record["part"], record["item"]): record for record in found}
    get = lambda part, item, key: by.get((part, item), {}).get(key)
    steps = lambda preset, name, key: get("steps", f"{preset}, {name}", key)
    goal = lambda item: get("goal", item, "seconds to 1.4697")
    gpt2, chars = "gpt2", "nanogpt-shakespeare"
    ratio = lambda preset, name: steps(preset, name, "their time / ours")
    every = [record for record in found if record["part"] == "kernels"]
    right = sum("error" not in record for record in every)
    rows = [
        ("GPT-2 124M, tokens/s", "≥ 570,000", best(by, "ours", "tokens/s") or steps(gpt2, "eager", "tokens/s")),
        ("  PyTorch eager's time / ours", "≥ 1.5", ratio(gpt2, "eager")),
        ("  torch.compile's", "≥ 1.1", ratio(gpt2, "compile")),
        ("  reduce-overhead's", "", ratio(gpt2, "reduce-overhead")),
        ("  tokens/s at the best batch: eager", "", best(by, "eager", "tokens/s")),
        ("  torch.compile", "", best(by, "compile", "tokens/s")),
        ("  our GB, at the most", "≤ the next", steps(gpt2, "compile", "GB")),
        ("  torch.compile's", "", steps(gpt2, "compile", "their GB")),
        ("  products alone, ms", "", get("products", gpt2, "floor ms")),
        ("character model, ms a step", "≤ 3.5", steps(chars, "reduce-overhead", "ms")),
        ("  PyTorch eager's time / ours", "≥ 2", ratio(chars, "eager")),
        ("  reduce-overhead's", "> 1", ratio(chars, "reduce-overhead")),
        ("  products alone, ms", "", get("products", chars, "floor ms")),
        ("seconds to 1.4697, nanoGPT's recipe", "180 on an A100", goal(f"{chars}, bfloat16")),
        ("  our recipe", "", goal("modern, bfloat16")),
        ("kernels that agree with their rules", "all", f"{right} of {len(every)}" if every else None),
        ("tests marked gpu", "no failure", get("tests", "pytest -m gpu", "summary")),
        ("replay as eager", "13 steps", get("curves", "replayed as eager", "with the same loss and norm")),
    ]  # fmt: skip
    return "\n".join(
        f"{name:40} {wanted:>16}   {'not found' if value is None else short(value)}" for name, wanted, value in rows
    )


def best(by, name, key):
    """The largest over the batch sizes of the part `batches`."""
    found = [
        record.get(key, 0) for (part, item), record in by.items() if part == "batches" and item.startswith(f"{name},")
    ]
    return max(found, default=None)
