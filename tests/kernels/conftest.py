"""Where CUDA kernels run."""

import pytest
import strict_array
from cuda_checks import gpu, small_blocks


@pytest.fixture(scope="module", params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def xp(request):
    """The array library: strict arrays with emulated kernels, in small blocks for speed, or CuPy."""
    if request.param == "cuda":
        yield gpu()
        return
    with small_blocks():
        yield strict_array
