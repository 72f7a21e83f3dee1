"""A random permutation of very many elements without a table: each position is computed from a few random keys.

GPT-3's CommonCrawl has 200 million windows of 2,048 tokens; shuffling a list of them takes 1.6 GB and seconds per
epoch. A Feistel network (Luby and Rackoff 1988) needs no list: it splits a number into two halves and adds to each in
turn a random function of the other, which can always be undone. Black and Rogaway 2002, "Ciphers with arbitrary finite
domains", split by division, so the domain need not be a power of two: here it is a², the square of an even a, above n.
A result of n or more goes through the network again until it is below n ("cycle walking").

Why a is even: a round shifts columns of a numbers. If a is odd, each such shift is an even permutation, and so is any
product of rounds. Then of 8 elements, with a = 3, eight of nine permutations would be odd; statistics of places and
pairs would not show it.
"""

import numpy as np

ROUNDS = 10  # four are pseudorandom in large domains; measured, domains of a few tens need eight


def permute(x, n, keys):
    """The image of x under a permutation of 0 … n − 1. uint64 arrays: x and n (m,), keys (ROUNDS, m).

    Each element has its own n < 2⁵³ and keys, so a batch from several sources is one call.
    """
    a = np.sqrt(n).astype(np.uint64) + np.uint64(1)
    a += a % np.uint64(2)  # see above; a² exceeds n by at most 4 √n + 4, so walking is rare
    y = feistel(x, a, keys)
    while (beyond := np.flatnonzero(y >= n)).size:
        y[beyond] = feistel(y[beyond], a[beyond], keys[:, beyond])
    return y


def feistel(x, a, keys):
    """The image of x under a permutation of 0 … a² − 1."""
    left, right = x % a, x // a
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        left = (left + mix_bits(right ^ even) % a) % a
        right = (right + mix_bits(left ^ odd) % a) % a
    return right * a + left


def mix_bits(x):
    """A bijection of 64-bit numbers that scatters neighbours: the last step of SplitMix64 (Steele et al. 2014), with
    Stafford's constants."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
