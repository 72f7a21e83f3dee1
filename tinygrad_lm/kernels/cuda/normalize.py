"""Norms on a GPU: one pass each way over the rows. See normalize.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.columns import column_sums
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, i4, i8, kernel, width
from tinygrad_lm.ops.normalize import check_channels, layer_norm, rms_norm

THREADS = 256  # of a block, at most
PACKETS, ENTRIES = 8, 32  # of a row that a thread has, at most: more do not fit the registers
TEAMS, SUMS = 512, 2**21  # of the backward pass: so many at most, each leaves a row of sums; more if those are short

# N rows, C channels


@layer_norm.on("cuda", "float32", "bfloat16")
def layer_norm_on_gpu(x, w=None, b=None, *, eps=1e-5):
    """An implementation of `layer_norm` of ops/normalize.py. x, the means and 1/σ are kept, not x̂."""
    check_channels(x, w, b)
    return norm(x, w, b, eps, centred=1)


@rms_norm.on("cuda", "float32", "bfloat16")
def rms_norm_on_gpu(x, w=None, *, eps=1e-6):
    """An implementation of `rms_norm` of ops/normalize.py. x and 1/ρ are kept, not x̂."""
    check_channels(x, w)
    return norm(x, w, None, eps, centred=0)


def norm(x, w, b, eps, centred):
    """Value and gradient function; NotImplemented where a row is too long for the registers of a block.

    The gradients of w and b are float32, the dtype that they are added up in.
    """
    if not covered(x, w, b):
        return NotImplemented
    x, w, b = map(contiguous, (x, w, b))
    C, xp = x.shape[-1], array_module(x)
    W = width(C, x)
    longest = THREADS * min(PACKETS * W, ENTRIES)
    if longest < C:
        return NotImplemented
    team = min(THREADS, -(-C // (32 * W)) * 32)
    threads = 128 if team == 32 else team
    N, constants = x.size // C, {"PACKETS": -(-C // (team * W)), "CENTRED": centred, "TEAM": team}
    y, inverse = xp.empty_like(x), xp.empty(N, f4)
    mean = xp.empty(N, f4) if centred else None
    forward = kernel("normalize", "norm_forward", x, W, **constants)
    forward(-(-N * team // threads), threads, x, w, b, y, mean, inverse, i8(N), i4(C), f4(eps))

    def backward(dy):
        dy, blocks = contiguous(dy), -(-min(N, max(TEAMS, SUMS // C)) * team // threads)
        dx = xp.empty_like(x)
        dw, db = (None if p is None else xp.empty((blocks * threads // team, C), f4) for p in (w, b))
        back = kernel("normalize", "norm_backward", x, W, **constants)
        back(blocks, threads, dy, x, w, mean, inverse, dx, dw, db, i8(N), i4(C))
        return (dx, *(column_sums(d, f4) for d in (dw, db) if d is not None))

    return y, backward
