"""The table and the JSON of results."""

import json
import math

from tinygrad_lm.evaluate.report import PUBLISHED, SIZES, SOURCES, Result, results_json, results_table
from tinygrad_lm.evaluate.tasks import TASKS

ROWS = [
    ("lambada", Result("acc", 0.3251, 0.0065, 5153), 12.34),
    ("lambada", Result("perplexity", math.inf, math.inf, 5153), 12.34),
    ("translation", Result("bleu", 5.1, None, 3003), 99.0),
]


def test_the_table_shows_values_errors_and_what_is_published():
    head, *lines = results_table(ROWS).split("\n")
    assert head.split() == ["task", "metric", "value", "±", "error", "n", "seconds", *SIZES, "source"]
    assert lines[0].split() == ["lambada", "acc", "0.3251", "±", "0.0065", "5,153", "12.3", "0.3256", "[2]"]
    assert lines[1].split() == ["0.5121", "[3]"]
    assert lines[2].split() == ["perplexity", "inf", "±", "inf", "5,153", "35.13", "15.6", "10.87", "8.63", "[1]"]
    assert lines[5].split() == ["translation", "bleu", "5.1000", "3,003", "99.0", "5", "[7]"]
    assert [line[:3] for line in lines[6:]] == ["[1]", "[2]", "[3]", "[7]"]
    assert "Radford et al. 2019" in lines[6]
    columns = [line.rstrip() for line in (head, *lines[:6])]
    assert columns[1].index("0.3256") + len("0.3256") == columns[0].index("gpt2") + len("gpt2")
    assert columns[2].index("0.5121") + len("0.5121") == columns[0].index("gpt2-xl") + len("gpt2-xl")


def test_a_table_of_what_nobody_has_published_has_no_notes():
    assert len(results_table([("text", *ROWS[0][1:])]).split("\n")) == 2


def test_json_has_the_same():
    report = json.loads(json.dumps(results_json(ROWS, model="m", limit=None), allow_nan=False))
    assert (report["model"], report["limit"]) == ("m", None)
    first, second, third = report["results"]
    assert first.items() >= {"task": "lambada", "metric": "acc", "value": 0.3251, "error": 0.0065, "n": 5153}.items()
    assert first["seconds"] == 12.34
    assert first["published"] == [
        {"model": "gpt2", "value": 0.3256, "source": SOURCES[2]},
        {"model": "gpt2-xl", "value": 0.5121, "source": SOURCES[3]},
    ]
    assert second["value"] is second["error"] is None
    assert (third["error"], len(third["published"])) == (None, 1)


def test_what_is_published_belongs_to_a_task_and_has_a_source():
    for (task, _), publications in PUBLISHED.items():
        assert task in TASKS
        for source, numbers in publications:
            assert source in SOURCES
            assert len(numbers) == len(SIZES)
            assert any(numbers)
