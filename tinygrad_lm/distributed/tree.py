"""A sum over ranks whose bits do not depend on who computes it: every entry is added in the same binary tree.

MPI and NCCL promise no order for their own sums, and choose it by the number of ranks, sizes and the network.
"""

from tinygrad_lm.backend import array_module


def tree_sum(exchange, rank, size, x):
    """x ← ((x₀ + x₁) + (x₂ + x₃)) + …, the sum over `size` ranks, a power of two, of a flat array, in place.

    exchange(send, receive, partner): two ranks send each other an array.

    At distance 1, 2, 4, … two ranks divide between them what they both have summed so far: each adds up one half, which
    halves again. Then each hands back what it has summed, in the other direction. So 2 (size − 1) / size of the array
    are sent and received by each rank, the least that is possible (Thakur et al. 2005, "Optimization of collective
    communication operations in MPICH", section 4.5), and the order of additions is the tree's, because a + b = b + a.
    """
    here, halves, distance = slice(0, x.size), [], 1
    buffer = array_module(x).empty((x.size + 1) // 2, x.dtype)
    while distance < size:
        middle = (here.start + here.stop) // 2
        low, high = slice(here.start, middle), slice(middle, here.stop)
        mine, other = (high, low) if rank & distance else (low, high)
        received = buffer[: mine.stop - mine.start]
        exchange(x[other], received, rank ^ distance)
        x[mine] += received
        halves.append((mine, other))
        here, distance = mine, 2 * distance
    for mine, other in reversed(halves):
        distance //= 2
        exchange(x[mine], x[other], rank ^ distance)
