"""A trained tokenizer: round trips, agreement with tiktoken and Hugging Face's library, and its files."""

import base64
import json
import sys
from itertools import islice, pairwise

import numpy as np
import pytest
from data.bpe_oracle import anything, few, library, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm.data.tokenizers import bpe_tokenizer
from tinygrad_lm.data.tokenizers.bpe import ALPHABET, count_words, learn_merges
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, byte_letters
from tinygrad_lm.data.tokenizers.ranks import halves, read_ranks, write_ranks
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer, tokenizer_from_dict
from tinygrad_lm.errors import ConfigError, DataError, TokenError

TEXT = "To be, or not to be: that is the question. Voilà, l'été — “déjà” 🦢! 한국어 the the there"
DIGITS = r"\p{N}|[^\p{N}]+"


def trained(text, merges=300, **options):
    return BPETokenizer([*ALPHABET, *(a + b for a, b in islice(learn_merges(count_words([text])), merges))], **options)


@pytest.fixture(scope="module")
def tokenizer():
    return trained(TEXT)


# There and back


@pytest.mark.slow
@given(text=st.text() | texts)
def test_there_and_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == "".join(tokenizer.stream(ids)) == text
    assert tokenizer.eot not in ids


@given(ids=st.lists(st.integers(0, 256)))
def test_any_tokens_decode_as_tiktoken_decodes_them(tokenizer, ids):
    assert tokenizer.decode(ids) == "".join(tokenizer.stream(ids)) == tokenizer._bpe.decode(ids)


@given(learnt=texts, text=few | anything)
def test_ids_are_those_of_tokenizers(learnt, text):
    theirs = library([learnt], 50)
    assert trained(learnt, 50).encode(text).tolist() == theirs.encode(text).ids
    assert trained(learnt, 50).encode(learnt).tolist() == theirs.encode(learnt).ids


@pytest.mark.slow
def test_ids_of_tiny_shakespeare_are_those_of_tokenizers(shakespeare):
    text = shakespeare.read_text()
    assert trained(text, 1024).encode(text).tolist() == library([text], 1024).encode(text).ids


@given(text=texts)
def test_what_was_learnt_to_the_end_has_one_token_a_word(text):
    """So each word's merges are found again by its ranks; and the words are those that tiktoken cuts."""
    counts = count_words([text])
    assert len(trained(text, None).encode(text)) == counts.total()


def test_what_is_no_text_is_refused(tokenizer):
    with pytest.raises(TokenError, match="position 2"):
        tokenizer.encode("dé\udcff")
    with pytest.raises(TokenError, match=r"bpe tokenizer: id \d+ is outside its vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])


def test_special_tokens_come_last_and_are_never_read_in_a_text():
    tokenizer = trained(TEXT, 10, special=["<|a|>", END, "the"])
    assert (tokenizer.vocab_size, tokenizer.eot, tokenizer.bos) == (269, 267, None)
    assert tokenizer.decode([266, 267, 268]) == f"<|a|>{END}the"
    assert tokenizer.encode(f"<|a|>{END}the").max() < 266
    assert trained(TEXT, 10, special=["<|a|>"]).eot is None
    for wrong in (["a", "a"], [""]):
        with pytest.raises(ConfigError, match="special tokens must differ and not be empty"):
            BPETokenizer(ALPHABET, wrong)


@pytest.mark.slow
def test_gpt2_s_ranks_are_gpt2(gpt2, tmp_path):
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(write_ranks(gpt2.vocabulary[:-1]))
    tokenizer = BPETokenizer.load(path)
    assert (tokenizer.fingerprint, tokenizer.eot) == (gpt2.fingerprint, 50256)
    for text in (TEXT, "I'll  we've\n\n\n x  'S 'd12ab½ ٣ \t\u2003y", "  ", "\r\n a"):
        assert tokenizer.encode(text).tolist() == gpt2.encode(text).tolist()


@pytest.mark.slow
def test_gpt2_s_merges_are_found_by_their_ranks(gpt2):
    byte = {letter: bytes([b]) for b, letter in byte_letters().items()}
    tokens = gpt2.vocabulary[:-1]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    lines = gpt2.files[1].read_text("utf-8").splitlines()[1:]
    merges = [[b"".join(byte[letter] for letter in half) for half in line.split()] for line in lines]
    assert [halves(token, ranks) for token in tokens[256:]] == merges


@given(data=st.data())
def test_halves_are_what_merging_one_pair_at_a_time_leaves(data):
    """The lowest rank first, then from the left; also for random ranks with unreachable tokens."""
    tokens = data.draw(st.lists(st.text("ab", min_size=2, max_size=9), unique=True, min_size=1, max_size=30))
    ranks = {token.encode(): rank for rank, token in enumerate(["a", "b", *tokens])}
    for token in list(ranks)[2:]:
        parts = [token[i : i + 1] for i in range(len(token))]
        while True:
            found = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
            if (lowest := min(found, default=len(ranks))) >= ranks[token]:
                break
            i = found.index(lowest)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        assert halves(token, ranks) == parts


class Counted(dict):
    """Counts the look-ups."""

    looks = 0

    def get(self, *arguments):
        self.looks += 1
        return super().get(*arguments)


@pytest.mark.parametrize("text", ["=" * 2**13, "-=" * 2**12, "".join(map(str, range(2500)))])
def test_the_work_for_a_long_token_is_in_proportion_to_its_length(text):
    """Such as a line of a table: visiting all pairs after every merge would take quadratic time."""
    tokens = trained(f"{text} {text}", None).tokens
    ranks = Counted({token: rank for rank, token in enumerate(tokens)})
    longest = max(tokens, key=len)
    assert len(longest) > 8000
    assert len(halves(longest, ranks)) == 2
    assert ranks.looks < 3 * len(longest)


def test_without_tiktoken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(DataError, match="pip install tiktoken"):
        BPETokenizer(ALPHABET)


# Files


@pytest.mark.slow
@settings(max_examples=30)
@given(text=texts, special=st.lists(st.text(min_size=1), unique=True) | st.just([END]))
def test_a_file_gives_the_same_tokenizer(tmp_path_factory, text, special):
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = trained(text, special=special)
    tokenizer.save(folder / "mine.tiktoken")
    again = BPETokenizer.load(folder / "mine.tiktoken")
    assert (again.vocabulary, again.eot, again.special) == (tokenizer.vocabulary, tokenizer.eot, special)
    assert again.contents() == tokenizer.contents()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tokenizer.contents()
    assert len(tokenizer.contents()) == 1 + (special != [END])


def test_tiktoken_reads_the_file(tokenizer, tmp_path, monkeypatch):
    from tiktoken.load import load_tiktoken_bpe

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    (tmp_path / "x").write_bytes(write_ranks(tokenizer.tokens))
    assert load_tiktoken_bpe(str(tmp_path / "x")) == {token: rank for rank, token in enumerate(tokenizer.tokens)}


def test_another_pattern_is_kept(tmp_path):
    trained("a1 22", pattern=DIGITS).save(tmp_path / "digits.tiktoken")
    again = BPETokenizer.load(tmp_path / "digits.tiktoken")
    assert again.pattern == DIGITS
    assert len(again.encode("22")) == 2
    assert len(trained("a1 22").encode("22")) == 1
    assert json.loads((tmp_path / "digits.tiktoken.json").read_text()) == {"pattern": DIGITS}
    description = again.to_dict()
    assert tokenizer_from_dict(description).fingerprint == again.fingerprint
    (tmp_path / "digits.tiktoken.json").unlink()
    with pytest.raises(ConfigError, match="expected the vocabulary with sha256 " + again.fingerprint[:12] + ", found"):
        tokenizer_from_dict(description)


def test_the_order_of_lines_does_not_matter(tokenizer, tmp_path):
    (tmp_path / "x").write_bytes(b"\r\n".join(reversed(write_ranks(tokenizer.tokens).split(b"\n"))))
    assert read_ranks(tmp_path / "x") == tokenizer.tokens


def line(token, rank):
    return base64.b64encode(token) + b" %d" % rank


GOOD = write_ranks([*ALPHABET, b"th", b"the", b" the"]).splitlines()  # rank r is on line r + 1
DAMAGE = {
    "no base64": ({257: b"dGhl! 257"}, ["line 258: expected a token in base64, a space and its rank, found b'dGhl!"]),
    "cut base64": ({257: b"dGh 257"}, ["line 258: expected a token in base64"]),
    "no rank": ({0: b"IQ=="}, ["line 1: expected a token", "line 2: expected rank 0 next, found 1", "byte 0x21"]),
    "three fields": ({258: b"IHRoZQ== 258 1"}, ["line 259: expected a token in base64"]),
    "negative rank": ({258: b"IHRoZQ== -258"}, ["line 259: expected a token in base64"]),
    "a word as rank": ({258: b"IHRoZQ== last"}, ["line 259: expected a token in base64"]),
    "a rank twice": ({258: line(b" the", 257)}, ["line 259: rank 257 is also on line 258"]),
    "a token twice": ({258: line(b"the", 258)}, ["line 259: the token b'the' is also on line 258"]),
    "a rank missing": ({256: b""}, ["line 258: expected rank 256 next, found 257"]),
    "a far rank": ({258: line(b" the", 10**9)}, ["line 259: expected rank 258 next, found 1000000000"]),
    "a byte missing": ({65: line(b"xx", 65)}, [f"the byte 0x{ALPHABET[65][0]:02x} is missing"]),
    "no merge": (
        {256: line(b"qu", 256)},
        ["line 258: the token b'the' cannot be reached: lower ranks merge its bytes to [b't', b'h', b'e']"],
    ),
    "no order": (
        {256: line(b"the", 256), 257: line(b"th", 257)},
        ["line 257: the token b'the' cannot be reached", "b'h', b'e']"],
    ),
    "an empty token": ({258: b"==== 258"}, ["line 259: "]),
    "all of it": (dict.fromkeys(range(259), b"?"), ["line 10: ", "and 505 more"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_ranks(kind, tmp_path):
    changes, messages = DAMAGE[kind]
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(b"\n".join(changes.get(i, content) for i, content in enumerate(GOOD)))
    with pytest.raises(DataError) as caught:
        BPETokenizer.load(path)
    told = str(caught.value)
    assert told.startswith(f"tokenizer {path} is damaged; use the original, or train it again\n  ")
    for message in messages:
        assert message in told
    assert len(told.splitlines()) <= 12
    path.write_bytes(b"\n".join(GOOD))
    assert BPETokenizer.load(path).encode(" the theth").tolist() == [258, 258, 256]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting property name"),
        (b"\xff", "can't decode byte 0xff"),
        (b"[]", "expected an object of special and pattern, found []"),
        (b'{"specials": []}', "expected an object of special and pattern, found {'specials': []}"),
        (b'{"special": "ab"}', "special: expected a list of texts, found 'ab'"),
        (b'{"special": [1]}', "special: expected a list of texts, found [1]"),
        (b'{"special": ["a", "a"]}', "special tokens must differ"),
        (b'{"special": ["\\ud800"]}', "half a surrogate pair"),
        (b'{"pattern": 1}', "pattern: expected a text, found 1"),
        (b'{"pattern": "("}', "the pattern '(' is not a regular expression"),
    ],
)
def test_damaged_settings(content, message, tokenizer, tmp_path):
    path = tmp_path / "mine.tiktoken"
    tokenizer.save(path)
    (tmp_path / "mine.tiktoken.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        BPETokenizer.load(path)
    assert str(caught.value).startswith(f"tokenizer {path}.json is damaged: ")
    assert message in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"x.tiktoken: no such file \(current folder: "):
        BPETokenizer.load(tmp_path / "x.tiktoken")
    (tmp_path / "x.tiktoken").mkdir()
    with pytest.raises(DataError, match=r"x.tiktoken: cannot be read: Is a directory"):
        BPETokenizer.load(tmp_path / "x.tiktoken")


@pytest.mark.parametrize("there", ["mine.tiktoken", "mine.tiktoken.json"])
def test_a_tokenizer_that_exists_is_not_written_over(there, tokenizer, tmp_path):
    (tmp_path / there).write_bytes(b"old")
    with pytest.raises(ConfigError, match=f"{there} exists, and "):
        tokenizer.save(tmp_path / "mine.tiktoken")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_cannot_be_written_whole_is_not_there(tmp_path, monkeypatch):
    """The ranks are written last, so if they exist, the rest exists too."""
    written = []

    def full(path, content):
        if path.suffix == ".tiktoken":
            raise OSError(28, "No space left on device")
        written.append(path.name)

    monkeypatch.setattr(bpe_tokenizer, "replace", full)
    with pytest.raises(ConfigError, match=r"mine.tiktoken: cannot be written: No space left on device"):
        trained(TEXT, special=["<|a|>"]).save(tmp_path / "mine.tiktoken")
    assert written == ["mine.tiktoken.json"]


# Names and descriptions


def test_by_path_and_by_name(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(bpe_tokenizer, "cache_folder", lambda: tmp_path / "cache")
    path = tmp_path / "cache" / "tokenizers" / "mine.tiktoken"
    with pytest.raises(ConfigError) as caught:
        make_tokenizer("mine", "")
    assert str(caught.value) == (
        "tokenizer 'mine' is unknown; expected char, byte or gpt2, the path of a file *.tiktoken or tokenizer.json, "
        f"the folder of the latter, or the name of a tokenizer in {path.parent}"
    )
    tokenizer.save(path)
    monkeypatch.chdir(path.parent)
    for name in ("mine", str(path), "mine.tiktoken"):
        assert make_tokenizer(name, "").fingerprint == tokenizer.fingerprint
    with pytest.raises(DataError, match="no such file"):
        make_tokenizer("other.tiktoken", "")


def test_a_tokenizer_survives_json(tmp_path):
    tokenizer = trained(TEXT, 20, special=["<|a|>", END])
    tokenizer.save(tmp_path / "mine.tiktoken")
    description = json.loads(json.dumps(tokenizer.to_dict()))
    again = tokenizer_from_dict(description)
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert (again.fingerprint, again.eot, again.name) == (tokenizer.fingerprint, tokenizer.eot, "bpe")
    (tmp_path / "mine.tiktoken.json").unlink()  # now it has another special token
    with pytest.raises(ConfigError) as caught:
        tokenizer_from_dict(description)
    other = BPETokenizer(tokenizer.tokens).fingerprint
    assert f"sha256 {tokenizer.fingerprint[:12]}, found {other[:12]}; " in str(caught.value)
