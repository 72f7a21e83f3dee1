"""Learning-rate schedules: a factor for each step, constant from `steps` on. The page has one line, a cosine to 0."""

import math


def warmup_cosine(step: int, steps: int, warmup: int = 0, floor: float = 0.1) -> float:
    """Linear from 0 to 1 over `warmup` steps, then half a cosine down to `floor` (Loshchilov and Hutter 2017)."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def warmup_stable_decay(step: int, steps: int, warmup: int = 0, decay: float = 0.5, floor: float = 0.0) -> float:
    """Linear from 0 to 1 over `warmup` steps, constant, then linear to `floor` over the last share `decay` of steps.

    Hu et al. 2024, "MiniCPM", section 4. Unlike a cosine's, the constant part does not depend on `steps`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(0, steps - step) / max(1, decay * steps)
    return 1.0 if left >= 1 else floor + (1 - floor) * left
