"""Tables of a run's sources: what is planned with them, and what came of it."""

from tinygrad_lm.tables import aligned

MOST_EPOCHS = 4  # Muennighoff et al. 2023, "Scaling data-constrained language models": as good as new text up to there


def planned(stream, steps):
    """How many tokens each source of a Stream has, its weight, and the passes over it that so many steps make."""
    used = stream.used(steps)
    rows = [["source", "tokens", "weight", "epochs"]]
    for name, (weight, tokens) in stream.sources.items():
        rows.append([name, f"{len(tokens):,}", f"{float(weight):.2%}", f"{used[name]['epochs']:.2f}"])
    often = [name for name in used if used[name]["epochs"] > MOST_EPOCHS]
    warnings = [
        f"warning: {', '.join(often)}: more than {MOST_EPOCHS} epochs; what is seen that often teaches less each time "
        "(Muennighoff et al. 2023): train fewer steps, or lower the weight"
    ]
    return "\n".join([*aligned(rows), *(warnings if often else [])])


def outcome(log, floors):
    """What the last evaluation in a Log found: the share of each source and its error, the passes over it, and its
    validation loss beside its floor, where that is known ({source: nats a token or None})."""
    record = next(record for record in reversed(log.records) if "validation_sources" in record)
    losses = record["validation_sources"]
    rows = [["source", "asked for", "came", "error", "epochs", "validation", "floor"]]
    for name, used in record["sources"].items():
        shares = [f"{used['requested']:.2%}", f"{used['realised']:.2%}", f"{used['error']:+.3%}"]
        rows.append([name, *shares, f"{used['epochs']:.2f}", number(losses.get(name)), number(floors.get(name))])
    return "\n".join(aligned(rows))


def number(value):
    return "–" if value is None else f"{value:.4f}"
