"""A training step, ours beside PyTorch's, in turns: eager, torch.compile, and with its CUDA graphs."""

from gpu.contenders import Ours, Task, Theirs, race

MODES = {"eager": None, "compile": "default", "reduce-overhead": "reduce-overhead"}
# preset: (batch size, changes of the shape)
TASKS = {"gpt2": 32, "nanogpt-shakespeare": 64}


def items(place):
    for preset, batch_size in TASKS.items():
        for name, mode in MODES.items():
            yield f"{preset}, {name}", lambda p=preset, b=batch_size, m=mode: beside(place, p, b, m)
        for name, options in (("bfloat16, not captured", {"eager": True}), ("float32", {"dtype": "float32"})):
            yield f"{preset}, {name}", lambda p=preset, b=batch_size, o=options: alone(place, p, b, o)


def beside(place, preset, batch_size, mode):
    if place.tiny:
        mode = None  # compiling takes long, and would not be rehearsed on another device anyway
    makers = {"ours": Ours, "theirs": lambda task: Theirs(task, mode)}
    found = race(Task(place, preset, batch_size), makers)
    result = merged(found)
    if "ms" in result and "their ms" in result:
        result = {"their time / ours": result["their ms"] / result["ms"], **result}
        result["first losses differ by"] = abs(result["losses"][0] - result["their losses"][0])
    return result


def alone(place, preset, batch_size, options):
    return merged(race(Task(place, preset, batch_size), {"ours": lambda task: Ours(task, **options)}, rounds=3))


def merged(found):
    """The findings of both as one dictionary."""
    ours, theirs = found.get("ours", {}), found.get("theirs", {})
    result = {**ours, **{f"their {key}": value for key, value in theirs.items()}}
    wrong = [f"{who}: {findings['error']}" for who, findings in found.items() if "error" in findings]
    result.pop("their error", None)
    return {**result, "error": "; ".join(wrong)} if wrong else result
