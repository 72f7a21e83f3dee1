"""The figures of a policy gradient's log."""

import numpy as np
from made_logs import policy_log

from tinygrad_lm.posttrain.policy.policy_log import distinct


def test_updates_on_the_same_answers_count_once(tmp_path):
    log = policy_log(tmp_path, steps=20)
    once = distinct(log)
    assert once["reward"].tolist() == log.curve("reward")[1]
    assert once["step"].tolist() == [*range(1, 21)]
    twice = [twin for record in log.records for twin in (record, record | {"surrogate": 1.0})]
    log.records = [record | {"step": i} for i, record in enumerate(twice)]
    again = distinct(log)
    assert all(np.array_equal(again[name], once[name]) for name in once if name != "step")
    assert again["step"].tolist() == [*range(2, 42, 2)]
