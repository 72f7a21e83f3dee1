"""Tokens of byte pair encoding in tiktoken's text format: each line is a token in base64 and its rank.

The ranks determine the merges: of all pairs of neighbours whose concatenation is a token, the one of lowest rank is
merged first. So there is no list of merges; `halves` finds them.
"""

import os
from base64 import b64encode
from binascii import a2b_base64
from heapq import heappop, heappush
from pathlib import Path

from tinygrad_lm.errors import DataError


def write_ranks(tokens):
    """The content of a file with these tokens, in the order of their ranks."""
    return b"".join(b"%s %d\n" % (b64encode(token), rank) for rank, token in enumerate(tokens))


def read_ranks(path):
    """Read a file: [bytes of each token] in the order of their ranks.

    Raises DataError, with the lines, unless the ranks are 0, 1, 2, …, the 256 bytes are among the tokens, and every
    other token is a merge of two tokens of lower rank.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"tokenizer {path}: no such file (current folder: {os.getcwd()}); check the path") from None
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
            problems.append(f"line {number}: rank {rank} is also on line {lines[rank]}")
        elif token in ranks:
            problems.append(f"line {number}: the token {token!r} is also on line {lines[ranks[token]]}")
        lines.setdefault(rank, number)
        ranks.setdefault(token, rank)
    gap = next(((expected, rank) for expected, rank in enumerate(sorted(lines)) if expected != rank), None)
    if gap:
        problems.append(f"line {lines[gap[1]]}: expected rank {gap[0]} next, found {gap[1]}")
    problems += [f"the byte 0x{b:02x} is missing" for b in range(256) if bytes([b]) not in ranks]
    if not problems:
        problems = [
            f"line {lines[rank]}: the token {token!r} cannot be reached: lower ranks merge its bytes to {parts}"
            for token, rank in ranks.items()
            if len(token) != 1 and len(parts := halves(token, ranks)) != 2
        ]
    if problems:
        shown = problems[:10] + [f"and {len(problems) - 10:,} more"] * (len(problems) > 10)
        raise DataError("\n  ".join([f"tokenizer {path} is damaged; use the original, or train it again", *shown]))
    return sorted(ranks, key=ranks.get)


def halves(token, ranks):
    """Split a token by merging its bytes with all lower ranks: two parts if the token is the result of a merge.

    The result does not depend on the context: the bytes of a token always go through the same merges first. A heap has
    the pairs of neighbours, lowest rank first, then from the left; a pair with a part that has been merged meanwhile is
    skipped. So n bytes take at most 3 n look-ups of ranks.
    """
    n, limit = len(token), ranks[token]
    end, begin = [*range(1, n + 1)], [0, *range(n)]  # where the part that begins here ends, and the reverse
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
            end[i], end[middle], begin[k] = k, 0, i  # no part begins in the middle now
            if i > 0:
                look(begin[i], k)
            if k < n:
                look(i, end[k])
    return [token[i : end[i]] for i in range(n) if end[i]]
