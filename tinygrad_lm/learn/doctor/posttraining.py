"""What the log of a post-training run says: a table from first to last, and the doctor's findings."""

import numpy as np

from tinygrad_lm.learn.doctor.log_findings import FINE, as_text, norm_curve, spikes, validation_curve
from tinygrad_lm.learn.doctor.policy_findings import error_of_mean, policy_findings
from tinygrad_lm.learn.doctor.preference_findings import preference_findings
from tinygrad_lm.posttrain.policy.policy_log import distinct
from tinygrad_lm.tables import aligned

OF_POLICIES = {
    "reward": ("reward", "{:.3f}"),
    "kl": ("KL from the reference, nats per answer: k1", "{:.3f}"),
    "kl3": ("the same, estimated by k3", "{:.3f}"),
    "length": ("tokens an answer", "{:.1f}"),
    "ended": ("answers that end", "{:.1%}"),
    "silent": ("groups without signal", "{:.1%}"),
    "entropy": ("entropy, nats per token", "{:.3f}"),
}
OF_PREFERENCES = {
    "accuracy": ("pairs in the right order", "{:.1%}"),
    "chosen": ("score of the chosen answers", "{:+.2f}"),
    "rejected": ("score of the rejected answers", "{:+.2f}"),
    "margin": ("their difference", "{:+.2f}"),
}


def examine_log(run):
    """(table, findings) of a post-training run; None for a run of another kind."""
    log = run.log
    if log.curve("reward")[0]:
        return policy_table(run), policy_findings(log)
    if log.curve("accuracy")[0]:
        return evaluation_table(run), preference_findings(log, of_reward=bool(run.config["heads"]))
    if "chat" in run.config:
        return evaluation_table(run), [validation_curve(log), spikes(log), norm_curve(log, run.train_config.clip)]
    return None


def report_log(run):
    """Print a post-training run's table, and the findings that are not fine. Returns 0, an exit status."""
    table, findings = examine_log(run)
    print(f"\n{table}\n")
    for finding in findings:
        if finding.verdict != FINE:
            print(as_text(finding))
    return 0


def policy_table(run):
    """The figures of a policy gradient as text: means over the first, the middle and the last tenth of its draws."""
    draws = distinct(run.log)
    stretches = thirds(len(draws["step"]))
    rows = figure_rows(draws, OF_POLICIES, stretches)
    for i, stretch in enumerate(stretches, start=1):
        rows[1][i] += f" ± {error_of_mean(draws['reward_error'][stretch]):.3f}"
    return "\n".join([*aligned(rows), "", evaluation_table(run)])


def figure_rows(figures, labels, stretches):
    """The rows of a table: a figure's means over some stretches of the log."""
    steps = np.array(figures["step"])
    rows = [["", *(f"steps {steps[stretch][0]:,}–{steps[stretch][-1]:,}" for stretch in stretches)]]
    for name, (label, form) in labels.items():
        if name in figures:
            rows.append([label, *(form.format(float(np.mean(figures[name][stretch]))) for stretch in stretches)])
    return rows


def thirds(count):
    """The first, the middle and the last tenth of so many."""
    n = max(1, count // 10)
    return [slice(start, start + n) for start in sorted({0, (count - n) // 2, count - n})]


def evaluation_table(run):
    """What was measured on held-out prompts or pairs: the first, the best and the last evaluation."""
    steps, values = run.log.curve("validation")
    if not steps:
        return "no evaluation yet"
    best = int(np.argmin(values))
    places = sorted({0, best, len(steps) - 1})
    measure = " ".join(run.config["measure"])
    rows = [["", *(f"step {steps[i]:,}" + ", lowest" * (i == best) for i in places)]]
    parts = run.log.curves("validation_sources")
    curves = [(measure, "{:.4f}", values)]
    curves += [(f"  {name}", "{:.4f}", losses) for name, (_, losses) in parts.items() if len(parts) > 1]
    curves += [(label, form, run.log.curve(name)[1]) for name, (label, form) in OF_PREFERENCES.items()]
    rows += [[label, *(form.format(curve[i]) for i in places)] for label, form, curve in curves if curve]
    return "\n".join(aligned(rows))
