"""What the log of a post-training run says: a table from first to last, and the doctor's findings."""

import numpy as np

from tinygrad_lm.learn.doctor.log_findings import FINE, as_text, norm_curve, spikes, validation_curve
from tinygrad_lm.learn.doctor.policy_findings import distinct, error_of_mean, policy_findings
from tinygrad_lm.learn.doctor.preference_findings import preference_findings
from tinygrad_lm.tables import aligned

OF_POLICIES = {
    "reward": ("reward", "{:.3f}"),
    "kl": ("KL from the reference, nats an answer: k1", "{:.3f}"),
    "kl3": ("the same, estimated by k3", "{:.3f}"),
    "length": ("tokens an answer", "{:.1f}"),
    "ended": ("answers that end", "{:.1%}"),
    "silent": ("groups without signal", "{:.1%}"),
    "entropy": ("entropy, nats a token", "{:.3f}"),
}
OF_PREFERENCES = {
    "loss": ("loss, nats a pair", "{:.4f}"),
    "accuracy": ("pairs in the right order", "{:.1%}"),
    "chosen": ("log π / π_ref of the chosen answers, nats", "{:+.2f}"),
    "rejected": ("of the rejected", "{:+.2f}"),
    "margin": ("margin of the rewards", "{:.3f}"),
}


def examine_log(run):
    """(table, findings) of a post-training run; None for a run of another kind."""
    log, clip = run.log, run.train_config.clip
    if log.curve("reward")[0]:
        return policy_table(run), [*policy_findings(log), norm_curve(log, clip)]
    if log.curve("accuracy")[0]:
        return preference_table(run), [*preference_findings(log), norm_curve(log, clip)]
    if "chat" in run.config:
        return evaluation_table(run), [validation_curve(log), spikes(log), norm_curve(log, clip)]
    return None


def report_policy(run):
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


def preference_table(run):
    """The figures of a run on pairs as text: means over the first, the middle and the last tenth of its steps."""
    curves = {name: run.log.curve(name) for name in OF_PREFERENCES}
    figures = {name: np.array(values) for name, (_, values) in curves.items() if values}
    figures["step"] = curves["loss"][0]
    rows = figure_rows(figures, OF_PREFERENCES, thirds(len(figures["step"])))
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
    """What was measured on held-out prompts or pairs, by task: the first, the best and the last evaluation."""
    steps, values = run.log.curve("validation")
    if not steps:
        return "no evaluation yet"
    parts = run.log.curves("validation_sources")
    curves = {"all": values} | {f"  {name}": losses for name, (_, losses) in parts.items() if len(parts) > 1}
    best = int(np.argmin(values))
    places = sorted({0, best, len(steps) - 1})
    measure = " ".join(run.config.get("measure", ("validation loss", "")))
    head = [f"step {steps[i]:,}" + ", lowest" * (i == best) for i in places]
    rows = [[measure, *head]]
    rows += [[name, *(f"{curve[i]:.4f}" for i in places)] for name, curve in curves.items()]
    return "\n".join(aligned(rows))
