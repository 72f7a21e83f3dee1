"""The one computation of likelihood, against full forward passes, one at a time."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_evaluation import EndedTokenizer, Told, uniform
from small_gpt import configs, shaken, tiny

from tinygrad_lm import no_grad
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.errors import ConfigError, DivergedError, TokenError
from tinygrad_lm.evaluate import score as module
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.evaluate.score import encode_pair, score, spans
from tinygrad_lm.ops import log_softmax
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.evaluate import evaluate

MODEL = shaken(tiny("gpt2"), seed=3)  # V 7, window 5
ids = lambda least, most: st.lists(st.integers(0, 6), min_size=least, max_size=most)
pairs = st.lists(st.tuples(ids(1, 9), ids(1, 12)), min_size=1, max_size=7)


def full(model, sequence):
    """log P of every token but the first, and the likeliest tokens in their places, from one pass over all of them."""
    with no_grad():
        logits = model(np.array([sequence[:-1]]))
        return log_softmax(logits).data[0][np.arange(len(sequence) - 1), sequence[1:]], logits.data[0].argmax(-1)


@given(context=ids(1, 3), completion=ids(1, 3))
def test_a_score_is_the_sum_of_log_softmax_over_the_completion(context, completion):
    (found,) = score(MODEL, [(context, completion)])
    logprobs, likeliest = full(MODEL, context + completion)
    n = len(completion)
    agree(found.logprobs, logprobs[-n:], "log-probabilities")
    agree(found.total, logprobs[-n:].sum(), "total")
    assert found.greedy.tolist() == (likeliest[-n:] == completion).tolist()
    assert found.logprobs.dtype == np.float64
    assert found.greedy.dtype == bool


@given(drawn=configs(), seed=st.integers(0, 99), data=st.data())
def test_pytorch_scores_the_same(drawn, seed, data):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    import torch_gpt

    config, _ = drawn
    model = shaken(config, seed)
    rng = np.random.default_rng(seed)
    size = data.draw(st.integers(2, config.block_size + 1))
    n = data.draw(st.integers(1, size - 1))
    sequence = rng.integers(0, config.vocab_size, size)
    p = {name: torch.tensor(value.data) for name, value in model.flat.items()}
    logits = torch_gpt.logits(config, p, torch.tensor(sequence[None, :-1]))[0]
    expected = -torch.nn.functional.cross_entropy(logits, torch.tensor(sequence[1:]), reduction="none")[-n:]
    (found,) = score(model, [(sequence[:-n], sequence[-n:])])
    agree(found.logprobs, expected.numpy(), "log-probabilities")
    assert found.greedy.tolist() == (logits.argmax(-1)[-n:].numpy() == sequence[-n:]).tolist()


@given(pairs=pairs, stride=st.integers(1, 5), sizes=st.tuples(st.integers(1, 4), st.integers(5, 30)), data=st.data())
def test_scores_depend_neither_on_batches_nor_on_order_nor_on_threads(pairs, stride, sizes, data):
    alone = [score(MODEL, [pair], stride=stride, batch_size=1)[0] for pair in pairs]
    order = data.draw(st.permutations(range(len(pairs))))
    with workers(data.draw(st.integers(1, 3))):
        for size in sizes:
            found = score(MODEL, [pairs[i] for i in order], stride=stride, batch_size=size)
            for i, one in zip(order, found, strict=True):
                agree(one.logprobs, alone[i].logprobs, "log-probabilities")
                assert one.greedy.tolist() == alone[i].greedy.tolist()


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_logits_are_computed_a_few_at_a_time(chunk, monkeypatch):
    rng = np.random.default_rng(0)
    drawn = [(rng.integers(0, 7, 2), rng.integers(0, 7, n)) for n in (1, 3, 4, 12)]
    whole, asked, logits = score(MODEL, drawn), [], MODEL.logits
    monkeypatch.setattr(module, "LOGITS", 7 * chunk)
    monkeypatch.setattr(MODEL, "logits", lambda row: asked.append(len(row.data)) or logits(row))
    for found, expected in zip(score(MODEL, drawn), whole, strict=True):
        agree(found.logprobs, expected.logprobs, "log-probabilities")
        assert found.greedy.tolist() == expected.greedy.tolist()
    assert max(asked) == chunk
    assert sum(asked) == 1 + 3 + 4 + 12


@given(start=st.integers(1, 20), n=st.integers(1, 40), window=st.integers(1, 12), data=st.data())
def test_every_token_is_predicted_once_from_a_window_that_fits(start, n, window, data):
    stride = data.draw(st.integers(1, window))
    found = list(spans(start, start + n, window, stride))
    assert [t for _, first, stop in found for t in range(first, stop)] == list(range(start, start + n))
    for i, (begin, first, stop) in enumerate(found):
        assert 0 <= begin < first < stop
        assert stop - 1 - begin <= window
        assert stop - first <= (stride if i else window)
        if i:  # as long a past as the stride allows
            assert first - begin >= window - stride + 1
        assert begin == 0 or stop - 1 - begin == window


@given(n=st.integers(2, 30), stride=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_sliding_window_scores_what_each_window_sees(n, stride, seed):
    sequence = np.random.default_rng(seed).integers(0, 7, n)
    (found,) = score(MODEL, [(sequence[:1], sequence[1:])], stride=stride)
    expected, first = [], 1
    while first < n:
        last = min(max(first + stride, 6), n) - 1  # the last target of this window, whose inputs end before it
        logprobs, _ = full(MODEL, sequence[max(0, last - 5) : last + 1].tolist())
        expected += logprobs[len(logprobs) - (last - first + 1) :].tolist()
        first = last + 1
    agree(found.logprobs, np.array(expected), "log-probabilities")


@given(windows=st.integers(1, 6), seed=st.integers(0, 99))
def test_windows_side_by_side_are_the_validation_loss(windows, seed):
    tokens = np.random.default_rng(seed).integers(0, 7, 5 * windows + 1)
    (found,) = score(MODEL, [(tokens[:1], tokens[1:])])
    agree(-found.logprobs.mean(), evaluate(MODEL, tokens, 2), "loss")


@given(context=ids(1, 20), completion=ids(1, 5))
@example(context=[1] * 20, completion=[0, 1, 2, 3, 4])
def test_a_long_context_loses_its_beginning(context, completion):
    (found,) = score(MODEL, [(context, completion)])
    n = len(completion)
    logprobs, _ = full(MODEL, (context + completion)[-6:])
    agree(found.logprobs, logprobs[-n:], "log-probabilities")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_uniform_model_gives_ln_v_exactly(dtype):
    (found,) = score(uniform(50257, 8, dtype), [([3], list(range(100)))], stride=3)
    assert (found.logprobs == -np.log(50257)).all()
    assert found.greedy.tolist() == [True] + [False] * 99  # of equals the first, as generation takes it


def test_a_great_logit_does_not_overflow():
    model = Told(lambda tokens: np.full((*tokens.shape, 2), [1000.0, 999.0]), vocab_size=2)
    (found,) = score(model, [([0], [0, 1])])
    agree(found.logprobs, -np.log1p(np.exp([-1.0, 1.0])), "log-probabilities")


def test_half_precision_is_summed_in_more():
    logits = np.linspace(-1, 1, 3000).astype(np.float16)
    model = Told(lambda tokens: np.broadcast_to(logits, (*tokens.shape, 3000)), vocab_size=3000)
    (found,) = score(model, [([0], [5])])
    wide = logits.astype(np.float64)
    agree(found.logprobs, wide[[5]] - np.log(np.exp(wide).sum()), "log-probabilities", 1e-6)


def test_an_empty_context_is_the_beginning_of_a_text():
    (found,), (expected,) = score(MODEL, [([], [1, 2])], eot=4), score(MODEL, [([4], [1, 2])])
    agree(found.logprobs, expected.logprobs, "log-probabilities")


@pytest.mark.parametrize(
    ("pair", "stride", "error", "told"),
    [
        (([1], []), None, ConfigError, "completion 1 is empty"),
        (([], [1]), None, ConfigError, "context 1 is empty, and the tokenizer has no end-of-text token"),
        (([1], [7]), None, TokenError, "token id 7 is outside the model's vocabulary of 7"),
        (([-1], [2]), None, TokenError, "token id -1 is outside the model's vocabulary of 7"),
        (([1], [2, -1]), None, TokenError, "token id -1 is outside the model's vocabulary of 7"),
        (([1], [2]), 0, ConfigError, "stride must be from 1 to 5, the model's window, found 0"),
        (([1], [2]), 6, ConfigError, "stride must be from 1 to 5, the model's window, found 6"),
    ],
)
def test_what_cannot_be_scored_is_refused(pair, stride, error, told):
    with pytest.raises(error, match=told):
        score(MODEL, [([1], [2]), pair], stride=stride)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_damaged_model_has_no_score(wrong):
    model = Told(lambda tokens: np.where(np.arange(7) == 3, wrong, np.zeros((*tokens.shape, 7))), vocab_size=7)
    with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(DivergedError, match="not finite"):
        score(model, [([1], [3])])


def test_only_a_batch_is_in_memory():
    """No batch holds more than it may, and short sequences are not padded to the longest of all."""
    model = uniform(7, 64)
    score(model, [([1] * k, [2]) for k in (1, 64, 2, 63, 1, 32, 33, 2, 30)], batch_size=1)
    assert model.shapes == [(1, 64), (1, 63), (1, 33), (2, 32), (4, 2)]


# ---- the beginning of a text


class BegunTokenizer(ByteTokenizer):
    """Bytes 0 to 5, and a token that begins every text."""

    bos = 6


@given(context=ids(0, 12), completion=ids(1, 12), stride=st.sampled_from([None, 2, 5]))
@example(context=[1] * 9, completion=[2], stride=None)
@example(context=[1] * 9, completion=[2] * 6, stride=2)
@example(context=[], completion=[2], stride=None)
def test_every_context_begins_with_bos(context, completion, stride):
    """Also one that is too long, where a token of it is left: the first prediction is that of a full pass over both."""
    pair = bytes(context).decode(), bytes(completion).decode()
    (found,) = Evaluator(MODEL, BegunTokenizer(), stride=stride).score([pair], "pairs")
    context = BegunTokenizer().encode(pair[0].rstrip()).tolist()
    completion = BegunTokenizer().encode(pair[0][len(pair[0].rstrip()) :] + pair[1]).tolist()
    read = min(len(completion), stride or 5)  # of the completion, in the first window
    room = 5 - read
    begun = [6, *context][-1:] if room < 1 else [6, *context[max(0, len(context) - room) :]]
    logprobs, _ = full(MODEL, begun + completion[:read])
    agree(found.logprobs[:read], logprobs[-read:], "log-probabilities")


def test_a_context_has_no_second_beginning():
    """`complete` and `score` read the same ids in front of the same text; a tokenizer without bos adds none."""
    seen = []
    model = Told(lambda tokens: seen.append(tokens.tolist()) or np.zeros((*tokens.shape, 7)), 7, 5)
    for tokenizer, expected in ((BegunTokenizer(), [6, 1, 2]), (ByteTokenizer(), [1, 2])):
        Evaluator(model, tokenizer).score([("\1\2", "\3")], "pairs")
        assert seen.pop() == [expected]


# ---- where a text is cut

words = st.text(st.sampled_from("ab'stéß7. ,!?-\n\t 日"), max_size=12)


@given(context=words, completion=words.filter(str.strip))
def test_no_character_is_lost_where_a_text_is_cut(context, completion):
    tokenizer = ByteTokenizer()
    a, b = encode_pair(tokenizer, context, completion)
    assert tokenizer.decode([*a, *b]) == context + completion
    assert tokenizer.decode(a) == context.rstrip()


@given(context=words, completion=words.filter(str.strip), space=st.sampled_from([" ", "\n", "  ", "\n\n    "]))
def test_gpt2_has_the_same_tokens_for_the_parts_as_for_the_whole(gpt2, context, completion, space):
    """Cut before white space, no token lies across the cut; so a word has its space in its token."""
    for pair in ((context, space + completion), (context + space, completion.lstrip())):
        a, b = encode_pair(gpt2, *pair)
        assert [*a, *b] == gpt2.encode("".join(pair)).tolist()


def test_a_token_across_the_cut_is_divided(gpt2):
    """ "ab" is one token; as the continuation of "a" it is "b"."""
    assert len(gpt2.encode("ab")) == 1
    a, b = encode_pair(gpt2, "a", "b")
    assert (gpt2.decode(a), gpt2.decode(b)) == ("a", "b")


@pytest.mark.parametrize(("context", "completion"), [("The cat sat on the", " mat"), ("The cat sat on the ", "mat")])
def test_a_word_is_one_token_of_gpt2_with_its_space(gpt2, context, completion):
    a, b = encode_pair(gpt2, context, completion)
    assert [gpt2.decode([i]) for i in b] == [" mat"]
    assert gpt2.decode(a) == "The cat sat on the"


def test_the_tokenizer_of_these_tests_is_what_it_says():
    tokenizer = EndedTokenizer()
    assert tokenizer.vocab_size == 257
    assert tokenizer.decode([104, 105, tokenizer.eot]) == "hi<|endoftext|>"


def test_a_tokenizer_that_marks_the_beginning_of_a_text(tmp_path):
    """Llama 2's puts a space in front of a text: a completion must not be taken for a text of its own."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers, of the extra weights, is not installed")
    words = ["<unk>", "▁", *"abc", "▁a", "▁b"]
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE({word: i for i, word in enumerate(words)}, [("▁", "a"), ("▁", "b")], unk_token="<unk>")
    )
    normalizers = tokenizers.normalizers
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = JsonTokenizer(tmp_path)
    a, b = encode_pair(tokenizer, "a", " b")
    assert [words[i] for i in [*a, *b]] == ["▁a", "▁b"]
    assert [words[i] for i in b] == ["▁b"]
