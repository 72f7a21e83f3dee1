"""Norms on a GPU: one pass each way over the rows. See cuda/normalize.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda_compile import contiguous, covered, f4, i4, i8, kernel, width
from tinygrad_lm.ops.normalize import check_channels, layer_norm, rms_norm

THREADS = 256  # of a block, at most
PACKETS, ENTRIES = 8, 32  # of a row that a thread has, at most: more do not fit the registers
STRIPS = 512  # blocks of the way back, at most: each leaves a row of sums

# N rows, C channels


@layer_norm.kernel("cuda")
def layer_norm_on_gpu(x, w=None, b=None, *, eps=1e-5):
    """The rule of ops/normalize.py. x, the means and 1/σ are kept, not x̂."""
    check_channels(x, w, b)
    return norm(x, w, b, eps, centred=1) or layer_norm.rule(x, w, b, eps=eps)


@rms_norm.kernel("cuda")
def rms_norm_on_gpu(x, w=None, *, eps=1e-6):
    """The rule of ops/normalize.py. x and 1/ρ are kept, not x̂."""
    check_channels(x, w)
    return norm(x, w, None, eps, centred=0) or rms_norm.rule(x, w, eps=eps)


def norm(x, w, b, eps, centred):
    """Value and way back, or None where a row is too long for a block's registers or the dtype has no kernel."""
    shape, C, xp = x.shape, x.shape[-1], array_module(x)
    x, w, b = map(contiguous, (x, w, b))
    W = width(C, x)
    longest = THREADS * min(PACKETS * W, ENTRIES)
    if not covered(x) or longest < C:
        return None
    threads = min(THREADS, -(-C // (32 * W)) * 32)
    packets = -(-C // (threads * W))
    N, constants = x.size // C, {"PACKETS": packets, "CENTRED": centred}
    y, inverse = xp.empty_like(x), xp.empty(N, f4)
    mean = xp.empty(N, f4) if centred else None
    forward = kernel("normalize", "norm_forward", x, W, **constants)
    forward(N, threads, x, w, b, y, mean, inverse, i4(C), f4(eps))

    def backward(dy):
        dy, strips = contiguous(dy), min(N, STRIPS)
        dx = xp.empty_like(x)
        dw, db = (None if p is None else xp.empty((strips, C), f4) for p in (w, b))
        back = kernel("normalize", "norm_backward", x, W, **constants)
        back(strips, threads, dy, x, w, mean, inverse, dx, dw, db, i8(N), i4(C))
        return (dx.reshape(shape), *(column_sums(d, x) for d in (dw, db) if d is not None))

    return y.reshape(shape), backward


def column_sums(x, like):
    """Σ over the rows of a float32 matrix, as an array of `like`'s dtype."""
    N, C = x.shape
    y = array_module(x).empty(C, like.dtype)
    kernel("columns", "column_sums", y)(-(-C // 32), 256, x, y, i4(N), i4(C))
    return y
