"""The tokens of byte pair encoding as plain text, in tiktoken's format: a line is a token in base64 and its rank.

The ranks say all: of two neighbours that together are a token, those whose token has the lowest rank are merged first.
So the merges need no list of their own; `halves` finds them.
"""

import os
from base64 import b64encode
from binascii import a2b_base64
from heapq import heappop, heappush
from pathlib import Path

from tinygrad_lm.errors import DataError


def write_ranks(tokens):
    """The content of the file for these tokens, in the order of their ranks."""
    return b"".join(b"%s %d\n" % (b64encode(token), rank) for rank, token in enumerate(tokens))


def read_ranks(path):
    """[the bytes of each token] of a file, in the order of their ranks.

    Raises DataError, with the lines, unless the ranks are 0, 1, 2, …, the 256 bytes are among the tokens, and every
    other token is what two of lower rank merge to.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"tokenizer {path}: no such file, seen from the folder {os.getcwd()}; check the path") from None
    except OSError as error:
        raise DataError(f"tokenizer {path}: cannot be read: {error.strerror}; check the path") from None
    problems, ranks, lines = [], {}, {}  # {token: rank}, {rank: line}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            letters, digits = line.split()
            token, rank = a2b_base64(letters, strict_mode=True), int(digits if digits.isdigit() else "")
        except ValueError:
            problems.append(f"line {number}: expected a token in base64, a space and its rank, found {line[:60]!r}")
            continue
        if rank in lines:
            problems.append(f"line {number}: rank {rank} is on line {lines[rank]}, too")
        elif token in ranks:
            problems.append(f"line {number}: the token {token!r} is on line {lines[ranks[token]]}, too")
        lines.setdefault(rank, number)
        ranks.setdefault(token, rank)
    gap = next(((expected, rank) for expected, rank in enumerate(sorted(lines)) if expected != rank), None)
    if gap:
        problems.append(f"line {lines[gap[1]]}: expected rank {gap[0]} next, found {gap[1]}")
    problems += [f"no line has the byte 0x{b:02x}" for b in range(256) if bytes([b]) not in ranks]
    if not problems:
        problems = [
            f"line {lines[rank]}: the token {token!r} cannot arise: the ranks below its own merge it to {parts}"
            for token, rank in ranks.items()
            if len(token) != 1 and len(parts := halves(token, ranks)) != 2
        ]
    if problems:
        shown = problems[:10] + [f"and {len(problems) - 10:,} more"] * (len(problems) > 10)
        raise DataError("\n  ".join([f"tokenizer {path} is damaged; take the original, or train it anew", *shown]))
    return sorted(ranks, key=ranks.get)


def halves(token, ranks):
    """The tokens that merging by the ranks below the token's own leaves of it: two, if it can arise by a merge.

    Merges cannot disagree: wherever a token's bytes stand by themselves, they went through the same merges before.
    A heap has the pairs of neighbours, the lowest rank first and then from the left; one whose parts have been merged
    with others meanwhile is passed over. So n bytes take at most 3 n looks at the ranks.
    """
    n, limit = len(token), ranks[token]
    end, begin = [*range(1, n + 1)], [0, *range(n)]  # where the part that begins here ends, and the other way round
    pairs = []

    def look(i, k):
        if (rank := ranks.get(token[i:k], limit)) < limit:
            heappush(pairs, (rank, i, k))

    for i in range(n - 1):
        look(i, i + 2)
    while pairs:
        _, i, k = heappop(pairs)
        middle = end[i]
        if i < middle < k == end[middle]:
            end[i], end[middle], begin[k] = k, 0, i  # no part begins in the middle any more
            if i > 0:
                look(begin[i], k)
            if k < n:
                look(i, end[k])
    return [token[i : end[i]] for i in range(n) if end[i]]
