"""A run for the programs that serve a model."""

import pytest
from small_service import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("serve") / "run")
