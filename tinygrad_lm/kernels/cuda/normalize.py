"""Norms on a GPU: one pass each way over the rows. See normalize.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.adding import Adding
from tinygrad_lm.kernels.cuda.columns import column_sums, remember
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, i4, i8, kernel, width
from tinygrad_lm.ops.normalize import check_channels, layer_norm, rms_norm

PACKETS, ENTRIES = 8, 32  # of a row that a thread has, at most: more do not fit the registers
WARPS, LONGEST = 4, 8  # of a block: where each has a row of its own, and at most where they share one
# Of the backward pass, by an entry's bytes: as many as the registers of 132 multiprocessors hold, two to four each.
BLOCKS, WITH_BIAS = {2: 528, 4: 396}, {2: 396, 4: 264}

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
    row = 32 * min(PACKETS * W, ENTRIES)  # channels of a warp
    if LONGEST * row < C:
        return NotImplemented
    alone = row >= C  # a warp has a row alone
    warps = WARPS if alone else min(LONGEST, -(-C // (32 * W)))
    team, teams = (32, warps) if alone else (32 * warps, 1)
    constants = {"CENTRED": centred, "WARPS": warps, "TEAM": team, "PACKETS": -(-C // (team * W))}
    constants |= {"GAIN": int(w is not None), "BIAS": int(b is not None)}
    N = x.size // C
    y, inverse = xp.empty_like(x), xp.empty(N, f4)
    mean = xp.empty(N, f4) if centred else None
    forward = kernel("normalize", "norm_forward", x, W, **constants)
    forward(-(-N // teams), 32 * warps, x, w, b, y, mean, inverse, i8(N), i4(C), f4(eps))

    def backward(dy):
        most = (BLOCKS if b is None else WITH_BIAS)[x.dtype.itemsize]
        dy, blocks, sums = contiguous(dy), min(-(-N // teams), most), None

        def dx(plus, out):
            """The pass that leaves the sums, too: of dw, db and dx."""
            nonlocal sums
            dx, sums = xp.empty_like(x), xp.empty((3, blocks, C), f4)
            back = kernel("normalize", "norm_backward", x, W, **constants)
            back(blocks, 32 * warps, dy, x, w, mean, inverse, contiguous(plus), dx, sums, i8(N), i4(C))
            if b is not None:
                remember(dx, sums[-1 if w is not None else 1])
            if out is not None:
                out[...] = dx
            return dx

        def of(i):
            def dp(plus, out):
                if sums is None:
                    dx(None, None)
                return column_sums(sums[i], plus, out)

            return Adding(dp, f4)

        return (Adding(dx, x.dtype), *(of(i) for i, p in enumerate(p for p in (w, b) if p is not None)))

    return y, backward
