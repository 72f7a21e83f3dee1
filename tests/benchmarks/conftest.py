"""The benchmarks are programs that import each other from their folder."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]
