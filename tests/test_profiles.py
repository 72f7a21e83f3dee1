"""The quick profile, which README's command runs, and the whole, which .ci/run runs (conftest.py)."""

import re
from pathlib import Path
from types import SimpleNamespace

from hypothesis import settings
from slow import MOST, NOTHING_QUICK, few_of_each

ROOT = Path(__file__).parents[1]


def test_each_file_has_a_test_that_is_not_slow(request):
    """So something of every subject is looked at in the quick profile, too."""
    assert request.config.stash[NOTHING_QUICK] == set()


def test_slow_tests_and_more_examples_come_together(request):
    chosen = bool(request.config.option.runslow or request.config.option.markexpr)
    assert settings.default.max_examples >= (50 if chosen else 10)
    assert chosen or not [item.name for item in request.session.items if item.get_closest_marker("slow")]


def test_ci_runs_the_whole_and_readme_has_one_command():
    runs = re.findall(r"python -m pytest(.*)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert len(runs) == 3
    assert all(options.startswith(" --runslow") for options in runs)
    assert re.findall(r"python -m pytest(.*)", (ROOT / "README.md").read_text(encoding="utf-8")) == [""]


def test_of_many_parameters_a_few_are_spread_evenly():
    marked = [SimpleNamespace(nodeid=f"b::y[{i}]", get_closest_marker=lambda name: name == "every") for i in range(20)]
    many = [SimpleNamespace(nodeid=f"a::x[{i}]", get_closest_marker=lambda name: None) for i in range(20)]
    assert list(few_of_each([*many, *marked])) == [*many[::3], *marked]
    assert list(few_of_each(many[:MOST])) == many[:MOST]
