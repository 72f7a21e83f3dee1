"""Byte pair encoding, learnt from text: which tokens to make of which others, and in which order.

At first the tokens are the 256 bytes. Then, again and again, the pair of neighbours that occurs most often becomes a
token of its own (Sennrich et al. 2016, algorithm 1), within words only, as GPT-2's pattern cuts them (Radford et al.
2019, section 2.2). Counting all pairs anew after each merge would take for ever. Three things make it fast:

- A text has few distinct words. Each is merged once, and its pairs count as often as it occurs.
- A merge changes the words that have the pair, and in these only the pairs on its left and right.
- The most frequent pair comes from a heap whose counts may be old. All occurrences of a pair arise together, when the
  younger of its tokens does; from then on they only vanish. So an old count is never too low, and it is enough to look
  at the one on top: is it old, then it goes back with what it is now.
"""

from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from operator import add

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import PATTERN, byte_letters
from tinygrad_lm.data.tokenizers.vocabulary import utf8

ALPHABET = tuple(bytes([b]) for b in byte_letters())  # the first 256 tokens, in the order of GPT-2


def count_words(texts):
    """Counter {word: occurrences} of the texts. Raises TokenError for half a surrogate pair.

    The library `regex` may know letters of a younger Unicode than tiktoken does, and cut these otherwise.
    """
    import regex

    words = regex.compile(PATTERN)
    counts = Counter()
    for text in texts:
        utf8(text)  # refuses what is no text
        for piece in split_text(text):
            counts.update(words.findall(piece))
    return counts


def split_text(text, size=2**16):
    """The text in pieces of `size` characters or a little more, so that no list of all its words is needed.

    A word has white space at its beginning or nowhere else, so none goes on where white space follows something else;
    and the pattern looks ahead only from white space to what follows it. Thus a cut there changes no word.
    """
    import regex

    place, start = regex.compile(r"\S(?=\s)"), 0
    while start < len(text):
        found = place.search(text, start + size)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end


def learn_merges(counts):
    """Yields merges (left, right), two tokens as bytes each, the best first, until every word is one token.

    counts: {word: occurrences}. Of pairs that occur equally often the one with the lower ids is first. Occurrences that
    overlap all count ("aaa" has two of "aa"), and one is enough. So the merges are those of Hugging Face's `tokenizers`
    with its default, min_frequency=0.
    """
    tokens = list(ALPHABET)
    ids = bytes.maketrans(b"".join(ALPHABET), bytes(range(256)))
    # A word is a str in which the character of code i is token i: as small as can be, and its merging is str.replace.
    words = [word.encode().translate(ids).decode("latin-1") for word in counts]
    weights = list(counts.values())
    total, where = Counter(), defaultdict(list)  # {pair: occurrences}, {pair: places in `words`}
    for i, word in enumerate(words):
        for pair in map(add, word, word[1:]):
            total[pair] += weights[i]
            where[pair].append(i)
    heap = [(-n, pair) for pair, n in total.items()]
    heapify(heap)
    while heap:
        n, pair = heappop(heap)
        if total[pair] != -n:
            if total[pair]:
                heappush(heap, (-total[pair], pair))
            continue
        a, b = pair
        yield tokens[ord(a)], tokens[ord(b)]
        new = chr(len(tokens))
        tokens.append(tokens[ord(a)] + tokens[ord(b)])
        born = defaultdict(list)
        for i in set(where.pop(pair)):
            words[i] = word = words[i].replace(pair, new)
            at = word.find(new)
            while at >= 0:
                if at > 0:
                    left = word[at - 1]
                    total[(b if left == new else left) + a] -= weights[i]
                    total[left + new] += weights[i]
                    born[left + new].append(i)
                if at + 1 < len(word) and (right := word[at + 1]) != new:  # else it is that one's left
                    total[b + right] -= weights[i]
                    total[new + right] += weights[i]
                    born[new + right].append(i)
                at = word.find(new, at + 1)
        del total[pair]
        where.update(born)
        for pair in born:
            heappush(heap, (-total[pair], pair))
