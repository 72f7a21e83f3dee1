"""Tokenizers of published models: from GPT-2's files under either name, and from a tokenizer.json of any kind."""

import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.errors import ConfigError, DataError, TokenError

TEXT = "To be, or not to be: that is the question. Voilà, l'été — “déjà” 🦢! 한국어 the the there"


# GPT-2's two files


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_gpt_2_under_either_name(gpt2, names, tmp_path, monkeypatch):
    for path, name in zip(gpt2.files, names, strict=True):
        shutil.copy(path, tmp_path / name)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "nothing"))
    tokenizer = GPT2Tokenizer(tmp_path)
    assert tokenizer.vocabulary == gpt2.vocabulary
    assert (tokenizer.eot, tokenizer.bos) == (50256, None)
    assert tokenizer.encode(TEXT).tolist() == gpt2.encode(TEXT).tolist()
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.folder == str(tmp_path)
    assert again.fingerprint == gpt2.fingerprint


def test_without_its_folder_gpt_2_comes_from_the_cache(gpt2, tmp_path):
    assert tokenizer_from_dict(gpt2.to_dict() | {"folder": str(tmp_path / "gone")}).fingerprint == gpt2.fingerprint


def test_the_pattern_is_tiktoken_s(gpt2):
    tiktoken = pytest.importorskip("tiktoken")
    theirs = tiktoken.get_encoding("gpt2")
    assert [gpt2._bpe.decode_single_token_bytes(i) for i in range(50257)] == gpt2.vocabulary
    assert theirs.token_byte_values() == sorted(gpt2.vocabulary[:-1])
    for text in (TEXT, "I'll  we've\n\n\n x  'S 'd12ab½ ٣ \t\u2003y", "  ", "\r\n a"):
        assert gpt2.encode(text).tolist() == theirs.encode_ordinary(text)


def small_files(folder, merges=("t h", "th e", "Ġ the"), more=("<|endoftext|>",)):
    """A vocabulary like GPT-2's with a few merges."""
    tokens = [*byte_letters().values(), *("".join(merge.split()) for merge in merges), *more]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def test_a_small_vocabulary(tmp_path):
    small_files(tmp_path)
    tokenizer = GPT2Tokenizer(tmp_path)
    assert tokenizer.vocab_size == 260
    assert tokenizer.encode("the the").tolist() == [257, 258]
    assert tokenizer.decode([258, 259]) == " the<|endoftext|>"
    assert tokenizer.eot == 259
    small_files(tmp_path, more=())
    assert GPT2Tokenizer(tmp_path).eot is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda ids: ids | {"the": 3},
        lambda ids: ids | {"Ġthe": 3},
        lambda ids: ids | {"<|endoftext|>": 1000},
        lambda ids: {token: i for token, i in ids.items() if token != "th"},
        lambda ids: [],
    ],
)
def test_ids_that_are_not_the_merges(damage, tmp_path):
    small_files(tmp_path)
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=r"vocab.json and .*merges.txt are not a vocabulary like GPT-2's"):
        GPT2Tokenizer(tmp_path)


# tokenizer.json

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

END, BEGIN = "<|endoftext|>", "<s>"


def bytewise(special):
    """As GPT-2's, Llama 3's and Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return tokenizer


def pieces(special):
    """As Llama 2's, from SentencePiece: spaces are ▁, the first one is left out, rare characters are bytes."""
    words = [
        *special,
        "<unk>",
        *(f"<0x{b:02X}>" for b in range(256)),
        "▁",
        *"abcdehilnoqrstuTv:,.",
        "th",
        "the",
        "▁the",
    ]
    vocabulary = {word: i for i, word in enumerate(words)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens(special)
    return tokenizer


def write(folder, make, begin=True, **settings):
    library = make([END, BEGIN])
    if begin:
        library.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END} | settings))
    return JsonTokenizer(folder)


@pytest.fixture(scope="module", params=[bytewise, pieces])
def tokenizer(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("tokenizer"), request.param)


@given(text=st.text(st.sampled_from(TEXT + " \n\t") | st.characters(codec="utf-8")))
def test_there_and_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.stream(ids)) == text


@given(text=st.text(st.sampled_from(TEXT + " \n")), data=st.data())
def test_what_follows_a_text_is_decoded_as_its_continuation(tokenizer, text, data):
    """A space that is left out in front of a text must not be left out in the middle of one."""
    ids = tokenizer.encode("the" + text + " the end").tolist()
    cut = data.draw(st.integers(1, len(ids)))
    before, after = ids[:cut], ids[cut:]
    assume(not tokenizer.decode(before).endswith("�"))  # half a character
    assert tokenizer.decode(before) + tokenizer.decode(after, before) == tokenizer.decode(ids)
    assert "".join(tokenizer.stream(after, before)) == tokenizer.decode(after, before)


def test_the_space_between_is_not_lost(tokenizer):
    before = tokenizer.encode("the").tolist()
    after = tokenizer.encode("the the").tolist()[len(before) :]
    assert tokenizer.decode(after, before) == " the"


@settings(max_examples=300)
@given(data=st.data())
def test_a_stream_of_any_tokens_is_what_they_decode_to(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12))
    assert "".join(tokenizer.stream(iter(ids))) == tokenizer.decode(ids)


@given(text=st.text(st.sampled_from(TEXT)))
def test_a_stream_never_yields_half_a_character(tokenizer, text):
    assert all("�" not in part for part in tokenizer.stream(tokenizer.encode(text)))


def test_a_stream_does_not_wait_for_the_end(tokenizer):
    """A character is complete with its last token; with byte tokens, one token later."""
    taken, seen = [], ""

    def ids():
        for i in tokenizer.encode(TEXT):
            taken.append(int(i))
            yield i

    for part in tokenizer.stream(ids()):
        seen += part
        assert tokenizer.decode(taken) == seen
    assert seen == TEXT


def test_special_tokens_are_only_text(tokenizer):
    text = f"one{END}two{BEGIN}"
    ids = tokenizer.encode(text).tolist()
    assert not {tokenizer.eot, tokenizer.bos} & set(ids)
    assert tokenizer.decode(ids) == text
    assert (tokenizer.eot, tokenizer.bos) == (0, 1)


def test_special_tokens_on_request(tokenizer, gpt2):
    """As transformers finds them; the tokenizer still takes them for text afterwards."""
    text = f"one{END}two{BEGIN}"
    ids = tokenizer.encode(text, special=True).tolist()
    assert ids == [*tokenizer.encode("one"), 0, *tokenizer.encode("two"), 1]
    assert 0 not in tokenizer.encode(text)
    assert gpt2.encode(f"a{END}", special=True).tolist() == [64, 50256]
    assert 50256 not in gpt2.encode(f"a{END}")


@pytest.mark.parametrize("mistake", ["x", -1, [2.0], [True]], ids=str)
def test_an_end_that_is_not_an_id(mistake, tmp_path):
    write(tmp_path, bytewise)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": mistake}))
    with pytest.raises(DataError, match="eos_token_id must be ids, found"):
        JsonTokenizer(tmp_path)


@pytest.mark.parametrize("blank", [" ", "\n"], ids=["spaces", "line ends"])
def test_a_million_blanks(gpt2, blank):
    """More than tiktoken's expression has stack for."""
    ours = BPETokenizer([bytes([b]) for b in range(256)])
    for tokenizer in (gpt2, ours):
        with pytest.raises(TokenError, match="has 1,000,000 white-space characters in a row at position 3, too many"):
            tokenizer.encode("a b" + blank * 1_000_000 + "c d")


def test_ends_and_beginnings(tmp_path):
    assert write(tmp_path, bytewise, begin=False).bos is None
    assert write(tmp_path, bytewise, eos_token=None).eot is None
    assert write(tmp_path, bytewise, eos_token={"content": BEGIN}).eot == 1
    library = bytewise([END, BEGIN])
    library.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 0)])
    library.save(str(tmp_path / "tokenizer.json"))
    assert JsonTokenizer(tmp_path).bos is None


def test_padding_and_cutting_are_left_to_others(tmp_path):
    library = bytewise([END])
    library.enable_padding(length=50)
    library.enable_truncation(3)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = JsonTokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert len(tokenizer.encode("a")) == 1


def test_a_tokenizer_survives_json(tokenizer, tmp_path):
    description = json.loads(json.dumps(tokenizer.to_dict()))
    again = tokenizer_from_dict(description)
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert again.fingerprint == tokenizer.fingerprint
    write(tmp_path, bytewise, begin=False)
    with pytest.raises(ConfigError, match=r"tokenizer.json tokenizer: expected the vocabulary with sha256"):
        tokenizer_from_dict(description | {"folder": str(tmp_path)})


@pytest.mark.parametrize("stray", [-1, "vocab_size", 2**31])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer, stray):
    stray = tokenizer.vocab_size if stray == "vocab_size" else stray
    for told in (tokenizer.decode, lambda ids: list(tokenizer.stream(ids))):
        with pytest.raises(TokenError, match=f"id {stray} is outside its vocabulary, 0 to {tokenizer.vocab_size - 1}"):
            told([0, stray])


def test_text_that_cannot_be_told(tokenizer, tmp_path):
    with pytest.raises(TokenError, match="position 2"):
        tokenizer.encode("dé\udcff")
    Tokenizer(models.WordLevel({"a": 0}, unk_token="")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenError, match="the vocabulary cannot express this text"):
        JsonTokenizer(tmp_path).encode("b")


def test_missing_and_damaged_files(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"tokenizer.json: expected the description of a tokenizer, found: .*No such"):
        JsonTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(DataError, match="expected the description of a tokenizer, found: "):
        JsonTokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'tinygrad-lm\[weights\]'"):
        JsonTokenizer(tmp_path)
