"""The ledger as text."""


def write(ledger):
    return "\n".join(f"{s.number} {s.label} {s.op} {s.shape} {s.source and s.source.place}" for s in ledger.steps)
