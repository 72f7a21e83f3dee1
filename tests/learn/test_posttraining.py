"""What a post-training run's log says, as a table, as findings and by the doctor's command."""

import json
import re
from types import SimpleNamespace

from made_logs import policy_log, preference_log
from small_policy import policy_run

from tinygrad_lm.learn.doctor.doctor import report
from tinygrad_lm.learn.doctor.posttraining import examine_log, report_log
from tinygrad_lm.train.run import RunFolder


def run_of(log, **config):
    """What is asked of a RunFolder."""
    config = {"measure": ["1 − reward", "on held-out prompts"], "heads": [], "chat": {}} | config
    return SimpleNamespace(log=log, config=config, train_config=SimpleNamespace(clip=1.0))


def lines(text):
    """{label: cells} of a table."""
    rows = [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows if row}


def test_the_table_of_a_policy(tmp_path):
    table, _ = examine_log(run_of(policy_log(tmp_path, steps=31)))
    rows = lines(table)
    assert re.findall(r"steps \d+–\d+", table) == ["steps 1–3", "steps 15–17", "steps 29–31"]
    assert rows["reward"] == ["0.217 ± 0.017", "0.450 ± 0.017", "0.683 ± 0.017"]  # 0.2 + 0.5/30 · 1; 0.03 / √3
    assert rows["KL from the reference, nats per answer: k1"] == ["0.067", "1.000", "1.933"]
    assert rows["answers that end"] == ["97.1%", "98.0%", "98.9%"]
    assert rows["groups without signal"][-1] == "49.3%"
    assert rows["1 − reward on held-out prompts"] == ["0.8000", "0.2500"]
    assert rows["sort"] == ["0.9000", "0.3000"]
    assert "step 31, lowest" in table
    assert "surrogate" not in table
    assert "777" not in table


def test_the_table_of_preferences(tmp_path):
    table, _ = examine_log(run_of(preference_log(tmp_path), measure=["validation loss", "nats per pair"]))
    rows = lines(table)
    assert rows["pairs in the right order"] == ["64.7%", "74.0%"]
    assert rows["score of the chosen answers"] == ["-0.83", "-1.50"]
    assert rows["their difference"] == ["+0.83", "+1.50"]


def test_a_reward_models_run_and_one_of_fine_tuning(tmp_path):
    log = preference_log(tmp_path, chosen=(0.0, -20.0))
    titles = lambda run: [finding.title for finding in examine_log(run)[1]]
    assert "log-probability of the chosen answers" in titles(run_of(log))
    assert "log-probability of the chosen answers" not in titles(run_of(log, heads=["score.weight"]))
    log.records = [{"step": record["step"], "loss": 1.0} for record in log.records]
    assert titles(run_of(log)) == [
        "validation against training",
        "learning rate, by the log",
        "gradient norm over the run",
    ]
    run = run_of(log)
    del run.config["chat"]
    assert examine_log(run) is None  # the doctor examines its weights and its text


def test_the_report_prints_what_is_not_fine(tmp_path, capsys):
    assert report_log(run_of(policy_log(tmp_path, kl=(0.0, 12.0)))) == 0
    told = capsys.readouterr().out
    assert "groups without signal" in told
    assert "? KL divergence from the reference" in told
    assert "✓" not in told


def test_the_doctor_examines_a_policys_run_by_its_log(tmp_path, capsys):
    run = policy_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    status = report(RunFolder(run.path))
    told = capsys.readouterr().out
    found = json.loads((run.path / "doctor.json").read_text())
    assert found["step"] == 2
    assert status == any(finding["verdict"] == "wrong" for finding in found["findings"])
    kl = next(finding for finding in found["findings"] if finding["title"] == "KL divergence from the reference")
    assert kl["numbers"]["first"] == 0.0  # the same bits
    assert all(finding["value"] in told for finding in found["findings"])
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {run.path / "doctor.json"}
    assert before.items() <= after.items()
