"""Learn byte pair encoding from text: which tokens to merge, and in which order.

At first the tokens are the 256 bytes. Then, repeatedly, the most frequent pair of neighbours becomes a new token
(Sennrich et al. 2016, algorithm 1), within words only, as GPT-2's pattern splits them (Radford et al. 2019, section
2.2). Counting all pairs again after each merge would be slow. Three facts make it fast:

- A text has few distinct words. Each is merged once, and its pairs count as often as it occurs.
- A merge changes only the words that contain the pair, and in these only the pairs to its left and right.
- The most frequent pair comes from a heap whose counts may be outdated. All occurrences of a pair appear together, when
  its newer token is made; afterwards they only disappear. So an outdated count is never too low, and only the top must
  be checked: if it is outdated, it goes back with its current count.
"""

from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from operator import add

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import PATTERN, byte_letters
from tinygrad_lm.data.tokenizers.vocabulary import utf8

ALPHABET = tuple(bytes([b]) for b in byte_letters())  # the first 256 tokens, in the order of GPT-2


def count_words(texts):
    """Counter {word: occurrences} of the texts. Raises TokenError for half a surrogate pair.

    The library `regex` may know a newer Unicode version than tiktoken, and split words with new letters differently.
    """
    import regex

    words = regex.compile(PATTERN)
    counts = Counter()
    for text in texts:
        utf8(text)  # raises TokenError for invalid text
        for piece in split_text(text):
            counts.update(words.findall(piece))
    return counts


def split_text(text, size=2**16):
    """Yield the text in pieces of `size` characters or slightly more, so that its words need not be listed at once.

    A word has white space only at its beginning, so it ends where white space follows another character; and the
    pattern looks ahead only from white space to the next character. So a cut there changes no word.
    """
    import regex

    place, start = regex.compile(r"\S(?=\s)"), 0
    while start < len(text):
        found = place.search(text, start + size)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end


def learn_merges(counts):
    """Yield merges (left, right), each two tokens as bytes, most frequent first, until every word is one token.

    counts: {word: occurrences}. Of equally frequent pairs the one with the lower ids is first. Overlapping occurrences
    all count ("aaa" has two of "aa"), and one occurrence is enough. So the merges are those of Hugging Face's
    `tokenizers` with its default, min_frequency=0.
    """
    tokens = list(ALPHABET)
    ids = bytes.maketrans(b"".join(ALPHABET), bytes(range(256)))
    # A word is a str in which the character of code i is token i: compact, and a merge is str.replace.
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
