"""A run that is planned by minutes ends on time with its rate at zero, and repeats what its log has; no real clock."""

import math
from dataclasses import replace

import numpy as np
import pytest
import small_run
from hypothesis import given
from hypothesis import strategies as st
from machines import Machine, follow
from small_run import TEXT, after_update, pretrain

from tinygrad_lm.data.loader import Batches
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train import command
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.device_steps import numbers_of
from tinygrad_lm.train.pace import Clock, Steps, pace_of
from tinygrad_lm.train.trainer import Trainer

PART, ENDING = 2.0, 5.0
CONFIG = TrainConfig(100, 1, schedule="linear", warmup=0, seconds=100 + 5 * PART + ENDING, ending=PART + ENDING)
MIDDLE = CONFIG.seconds / 2
SPEEDS = {
    "as expected": lambda now: 1.0,
    "twice as slow from the middle on": lambda now: 1 + (now > MIDDLE),
    "twice as slow until the middle": lambda now: 1 + (now < MIDDLE),
    "three times as fast": lambda now: 1 / 3,
    "two and a half times as slow": lambda now: 2.5,
    "uneven": lambda now: 1 + 0.3 * math.sin(now),
}


@pytest.mark.parametrize("name", SPEEDS)
def test_a_run_ends_on_time_with_its_rate_at_zero(name):
    """Within a step, the slowest one."""
    machine = Machine(SPEEDS[name])
    records, evaluations = follow(Clock(CONFIG, now=machine.now), machine, part=PART)
    step = max(record["seconds"] for record in records)
    assert abs(machine.used() - CONFIG.seconds) <= step + 1e-6
    rates = [record["rate_factor"] for record in records]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 3 / len(records)
    assert len(evaluations) == 5
    assert [record["position"] for record in records if record["step"] in evaluations[:-1]] == pytest.approx(
        [20, 40, 60, 80], abs=200 / len(records)
    )
    assert evaluations[-1] == len(records)


def test_on_a_machine_as_expected_it_makes_the_expected_steps():
    machine = Machine(lambda now: 1.007)
    records, _ = follow(Clock(CONFIG, now=machine.now), machine, part=PART)
    assert abs(len(records) - 100) <= 1
    assert machine.used() <= CONFIG.seconds + 1e-6


def test_the_last_step_of_the_recipes_epochs_may_come_before_the_time():
    """The rate has fallen to zero by then, too, and there are as many evaluations."""
    machine = Machine(lambda now: 0.5)
    records, evaluations = follow(Clock(CONFIG, limit=120, now=machine.now), machine, part=PART)
    assert len(records) == 120
    assert records[-1]["rate_factor"] == pytest.approx(1 / 120)
    assert len(evaluations) == 5
    assert machine.used() < CONFIG.seconds


def test_warm_up_is_counted_by_the_clock():
    config = TrainConfig(100, 1, warmup=10, seconds=100.0)
    machine = Machine(lambda now: 0.25)
    records, _ = follow(Clock(config, now=machine.now), machine)
    assert np.argmax([record["rate_factor"] for record in records]) == pytest.approx(40, abs=4)


@pytest.mark.parametrize("ahead", [3, 20])
def test_a_gpu_which_runs_ahead_ends_on_time_too(ahead):
    machine = Machine(SPEEDS["uneven"])
    records, evaluations = follow(Clock(CONFIG, now=machine.now), machine, ahead=ahead, part=PART)
    assert abs(machine.used() - CONFIG.seconds) <= 3
    positions = [record["position"] for record in records]
    assert positions == sorted(positions)
    assert (np.diff([record["elapsed"] for record in records]) > 0).all()
    assert records[-1]["rate_factor"] < 0.04
    assert len(evaluations) == 5


def test_a_gpus_steps_are_given_the_rate_of_the_position():
    model = GPT(small_run.GPTConfig(7, 5, **small_run.MODEL))
    trainer, other = (Trainer(model, Batches(np.arange(40) % 7, 2, 5), CONFIG) for _ in range(2))
    trainer.pace = Clock(CONFIG, records=[{"seconds": 1.0, "elapsed": 50.0, "position": 40.0}] * 3)
    found = numbers_of(trainer, range(2, 3), np.float64)["optimizer 0"][0]
    assert found.tolist() == [*other.optimizers[0].numbers(0.6)]


# ---- stopped and resumed


@pytest.mark.parametrize("ahead", [1, 4])
@given(at=st.integers(1, 99), back=st.integers(0, 30), slowness=st.sampled_from([0.5, 1.0, 3.0]))
def test_a_resumed_run_repeats_what_its_log_has_and_ends_on_time(ahead, at, back, slowness):
    """On another machine, after a pause. The time of pause and repetition is given to it."""
    machine = Machine(SPEEDS["uneven"])
    records, evaluations = follow(Clock(CONFIG, now=machine.now), machine, ahead=ahead, part=PART)
    at = min(at, len(records))
    first = max([0, *(done for done in evaluations if done <= at - back)])
    known = [record | {"loss": 1.0} for record in records[:at]]
    other = Machine(lambda now: slowness)
    again, evaluated = follow(Clock(CONFIG, records=known, now=other.now), other, first, ahead, PART)
    assert again[: at - first] == records[first:at]
    assert [done for done in evaluated if done < at] == [done for done in evaluations if first < done < at]
    if at <= 50:  # of what is left it sees how fast it is
        assert abs(again[-1]["elapsed"] + slowness * (PART + ENDING) - CONFIG.seconds) <= (1 + ahead) * max(slowness, 1)
        assert again[-1]["rate_factor"] < 0.3


def test_a_run_that_was_stopped_at_its_last_checkpoint_ends_on_time():
    """Nothing is to be repeated, and what that evaluation took is not in the log."""
    machine = Machine()
    records, evaluations = follow(Clock(CONFIG, now=machine.now), machine, part=PART)
    first, other = evaluations[-2], Machine()
    again, _ = follow(Clock(CONFIG, records=records[:first], now=other.now), other, first, part=PART)
    assert again[0]["elapsed"] == pytest.approx(records[first - 1]["elapsed"] + 1)
    assert again[-1]["elapsed"] + PART + ENDING <= CONFIG.seconds + 1e-6


def test_the_run_itself_repeats_its_steps_bit_for_bit(tmp_path, monkeypatch):
    """Killed after 7 steps, evaluated after the fourth: what the log says of steps 5 to 7 it says again."""
    (tmp_path / "text").write_text(TEXT)

    def on(seconds):
        """A machine whose clock moves by so much each time it is read."""
        times = iter(seconds * i for i in range(10**6))
        new = lambda config, batches, records=(): Clock(config, math.inf, records, lambda: next(times))
        monkeypatch.setattr(command, "pace_of", new)

    class Gone(BaseException):
        pass

    def gone(step):
        if step == 8:
            raise Gone

    monkeypatch.setattr(small_run.RunFolder, "draw", lambda self: None)
    on(1.0)
    options = ["--preset", "tiny", "--data", tmp_path / "text", "--out", tmp_path / "run", "--steps", 12]
    with monkeypatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            pretrain(*options, "--eval-every", 4, seconds=28.0, ending=2.0, schedule="linear")
    before = (tmp_path / "run" / "log.jsonl").read_text()
    on(0.75)
    assert pretrain("--resume", tmp_path / "run") == 0
    after = (tmp_path / "run" / "log.jsonl").read_text()
    assert after.startswith(before)
    log = small_run.Log(tmp_path / "run" / "log.jsonl")
    assert log.curve("validation")[0][0] < 6
    assert log.curve("loss")[0][-1] > 9
    assert log.curve("elapsed")[1][-1] <= 28.0
    assert pretrain("--resume", tmp_path / "run") == 2  # finished
    monkeypatch.undo()
    assert pretrain("--resume", tmp_path / "run", "--steps", 20) == 0
    assert small_run.Log(log.path).curve("position")[1][-3:] == [17, 18, 19]


# ---- by steps


def test_by_steps_the_position_is_the_step():
    config = TrainConfig(40, 1)
    machine = Machine(SPEEDS["uneven"])
    records, evaluations = follow(pace_of(config, None), Machine(), part=PART)
    assert [record["position"] for record in records] == list(range(40))
    assert [record["rate_factor"] for record in records] == [config.rate_factor(step) for step in range(40)]
    assert evaluations == [8, 16, 24, 32, 40]
    pace = Steps(config, records[:20], machine.now)
    again, _ = follow(pace, machine, 16, part=PART)
    assert again[:4] == records[16:20]
    assert pace.left(20) == pytest.approx(pace.elapsed(20))
    last = Steps(replace(config, ending=5.0), records)
    assert last.left(40) == pytest.approx(5 * last.step_seconds())


@pytest.mark.parametrize(("steps", "every", "expected"), [(9, 4, [4, 9]), (10, 4, [4, 8, 10]), (3, 5, [3])])
def test_no_evaluation_shortly_before_the_last(steps, every, expected):
    """In less than half of what is between two."""
    assert follow(Steps(TrainConfig(steps, 1, eval_every=every), now=Machine().now), Machine())[1] == expected
