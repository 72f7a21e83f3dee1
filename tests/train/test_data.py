"""What --data gives: a text is one stream of tokens, whatever stands in it."""

import pytest

from tinygrad_lm.data.corpus import Corpus
from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.data import text_data

STORIES = "".join(f"Story {i} of a dragon.\n{END}\n" for i in range(1200))


def told(text, tokenizer, capsys):
    """What is printed, line by line, when a text is taken."""
    text_data(Corpus("stories.txt", text, None), tokenizer, TrainConfig(1, 2), 8)
    return capsys.readouterr().out.splitlines()


def test_ends_that_are_ordinary_text_are_mentioned(capsys):
    """Once, with their number and what ends documents instead."""
    data, warning, hint = told(STORIES, BPETokenizer(ALPHABET, [END]), capsys)
    assert data.startswith("data    stories.txt: ")
    assert warning == f"warning: stories.txt holds {END} 1,200 times as ordinary text, which ends nothing"
    assert f'separator = "{END}"' in hint


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        (STORIES.replace(END, ""), BPETokenizer(ALPHABET, [END])),
        (STORIES, ByteTokenizer()),
        (STORIES, CharTokenizer.from_text(STORIES)),
    ],
    ids=["no marks", "byte", "char"],
)
def test_where_nothing_could_end_a_text_nothing_is_said(text, tokenizer, capsys):
    assert len(told(text, tokenizer, capsys)) == 1
