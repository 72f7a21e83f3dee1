"""References for learnt merges, and texts to learn from."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import byte_letters

# Words of few letters, so that pairs repeat, overlap, tie, and lose some of their occurrences to others.
words = st.lists(
    st.text("abcé", min_size=1, max_size=6) | st.sampled_from(["\n ", "'s", " 1", "x.x", "한"]), max_size=30
)
few = st.builds(lambda parts, between: between.join(parts), words, st.sampled_from([" ", ""]))
# Of all others those that Python's Unicode knows: the libraries' tables are of different years, and a letter that is
# younger than one of them is cut otherwise there.
anything = st.text(st.characters(exclude_categories=("Cs", "Cn")))
texts = st.lists(few | anything, max_size=3).map("".join)


def recounted(counts):
    """The definition: count all pairs, merge the most frequent one everywhere, repeat."""
    words, ids = [([bytes([b]) for b in word.encode()], n) for word, n in counts.items()], list(ALPHABET)
    while pairs := sum((Counter({p: n * k for p, k in Counter(pairwise(w)).items()}) for w, n in words), Counter()):
        best = min(pairs, key=lambda pair: (-pairs[pair], ids.index(pair[0]), ids.index(pair[1])))
        yield best
        ids.append(b"".join(best))
        words = [(merged(word, best), n) for word, n in words]


def merged(word, pair):
    out = []
    for token in word:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out


def library(texts, merges):
    """A tokenizer that Hugging Face's library trained."""
    hf = pytest.importorskip("tokenizers", reason="tokenizers, the oracle of this test, is not installed")
    trained = hf.Tokenizer(hf.models.BPE())
    trained.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    return trained


def merges_of(trained):
    byte = {letter: bytes([b]) for b, letter in byte_letters().items()}
    pairs = json.loads(trained.to_str())["model"]["merges"]
    return [tuple(b"".join(byte[letter] for letter in half) for half in pair) for pair in pairs]
