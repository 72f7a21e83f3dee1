"""A random order of very many things without a table: where each of them goes is computed, from a few random keys.

GPT-3's CommonCrawl has 200 million windows of 2,048 tokens; to shuffle a list of them takes 1.6 GB and seconds an
epoch. A Feistel network (Luby and Rackoff 1988) takes none: it parts a number into two halves and adds to each in turn
a random function of the other, which can always be undone. Black and Rogaway 2002, "Ciphers with arbitrary finite
domains", part it by division, so that the domain need not be a power of two: here it is a², the next even square after
n. A number that comes out at n or beyond goes through the network again until it is below ("cycle walking").

Why even: a round shifts columns of a numbers, and if a is odd, each such shift is an even permutation, and so are all
rounds together. Then of 8 things, with a = 3, eight of nine orders would be odd ones; by places and pairs it would
not show.
"""

import numpy as np

ROUNDS = 10  # four are pseudorandom in large domains; measured, in those of some tens it takes eight


def permuted(x, n, keys):
    """Where a permutation of 0 … n − 1 takes x. uint64 arrays: x and n (m,), keys (ROUNDS, m) say which permutation.

    Each element has its own n < 2⁵³ and keys, so that a batch from many sources is one call.
    """
    a = np.sqrt(n).astype(np.uint64) + np.uint64(1)
    a += a % np.uint64(2)  # see above; a² exceeds n by at most 4 √n + 4, so walking is rare
    y = feistel(x, a, keys)
    while (beyond := np.flatnonzero(y >= n)).size:
        y[beyond] = feistel(y[beyond], a[beyond], keys[:, beyond])
    return y


def feistel(x, a, keys):
    """A permutation of 0 … a² − 1, at x."""
    left, right = x % a, x // a
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        left = (left + mixed(right ^ even) % a) % a
        right = (right + mixed(left ^ odd) % a) % a
    return right * a + left


def mixed(x):
    """A bijection of 64-bit numbers that leaves no trace of order: the last step of SplitMix64 (Steele et al. 2014),
    with Stafford's constants."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
