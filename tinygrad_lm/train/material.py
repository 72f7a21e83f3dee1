"""What a run is trained on: one text, or a prepared mixture of sources, of which a text is the case of one.

Both give a Stream of batches (data/loader.py) and what to validate on, {source: (weight, tokens)}; and both are written
into the run's config.json, so that it goes on with the same or not at all.
"""

import hashlib
from fractions import Fraction
from pathlib import Path

from tinygrad_lm.data.corpus import load_corpus, split
from tinygrad_lm.data.loader import Batches, check_length
from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.data.mixture.mixture_batches import MixtureBatches
from tinygrad_lm.errors import ConfigError, DataError


def text(corpus, tokenizer, config, block_size):
    """The batches of a corpus, and what to validate on."""
    tokens, validation = map(tokenizer.encode, split(corpus.text))
    batches = Batches(tokens, config.batch_size, block_size, config.seed, config.accumulate, corpus.name)
    check_length(validation, 1)
    print(f"data    {corpus.name}: {len(tokens):,} tokens to train on, {len(validation):,} to validate")
    return batches, {corpus.name: (Fraction(1), validation)}


def mixture(prepared, config, block_size, validation_tokens, inside_documents=False):
    """The batches of a Dataset, and what to validate on: at most so many tokens a source.

    inside_documents: is attention to stay inside documents?
    """
    eot = prepared.tokenizer.eot
    if inside_documents and eot is None:
        raise ConfigError(
            f"dataset {prepared.path}: its tokenizer, {prepared.tokenizer.name}, has no end-of-text token, so "
            "nothing says where documents begin; leave out --inside-documents"
        )
    batches = MixtureBatches(
        prepared.train(),
        config.batch_size,
        block_size,
        config.seed,
        config.accumulate,
        document_token=eot if inside_documents else None,
    )
    validation = prepared.validation(validation_tokens)
    trained = sum(len(tokens) for _, tokens in batches.sources.values())
    held_out = sum(len(tokens) for _, tokens in validation.values())
    print(f"data    {prepared.path}: {trained:,} tokens to train on, {held_out:,} to validate")
    return batches, validation


def text_settings(path, corpus):
    """What config.json tells of a corpus that --data named."""
    place = path if path is None or path == "built-in" else str(Path(path).resolve())
    return {"path": place, "sha256": digest(corpus.text)}


def mixture_settings(prepared, validation_tokens, inside_documents):
    """What config.json records of a Dataset."""
    return {
        "prepared": str(prepared.path.resolve()),
        "seal": prepared.seal,
        "weights": {source.name: str(source.weight) for source in prepared.sources},
        "validation_tokens": validation_tokens,
        "inside_documents": inside_documents,
    }


def reopen(run):
    """The batches that a run was trained on, and what it validated on. DataError if they are not what they were."""
    data, config, block_size = run.settings["data"], run.train_config, run.model_config.block_size
    if "prepared" in data:
        prepared = Dataset(data["prepared"])
        if prepared.seal != data["seal"]:
            raise DataError(
                f"{prepared.path} is not the data that {run.path} was trained on: the seal of its sources is "
                f"{prepared.seal:.12}, expected {data['seal']:.12}; prepare it as it was, or start another run"
            )
        prepared.weigh(data["weights"])
        return mixture(prepared, config, block_size, data["validation_tokens"], data["inside_documents"])
    corpus = load_corpus(data["path"])
    if digest(corpus.text) != data["sha256"]:
        raise DataError(f"{corpus.name} is not the text that {run.path} was trained on; its sha256 differs")
    return text(corpus, run.tokenizer, config, block_size)


def floor(corpus, validation):
    """The level of the loss that no model can go below, {label: nats a token}, where it is known."""
    tokens = sum(len(tokens) for _, tokens in validation.values())
    characters = len(split(corpus.text)[1])
    return {"entropy of the source": corpus.floor * characters / tokens} if corpus.floor else {}


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
