"""What a run is trained on: a text, or a prepared mixture of sources; a text is a mixture with one source.

Both give a BatchStream (data/loader.py) and the validation texts, {source: (weight, tokens)}. Both are described in the
run's config.json, so a resumed run sees the same data or refuses to start.
"""

import hashlib
from fractions import Fraction
from pathlib import Path
from shlex import quote

from tinygrad_lm.data.corpus import load_corpus, split
from tinygrad_lm.data.loader import Batches, check_length
from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.data.mixture.mixture_batches import MixtureBatches
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.tables import aligned

MOST_EPOCHS = 4  # Muennighoff et al. 2023, "Scaling data-constrained language models": as good as new text up to there


def text_data(corpus, tokenizer, config, block_size):
    """The batches of a corpus, and its validation text."""
    tokens, validation = map(tokenizer.encode, split(corpus.text))
    batches = Batches(tokens, config.batch_size, block_size, config.seed, config.accumulate, corpus.name)
    check_length(validation, 1)
    print(f"data    {corpus.name}: {len(tokens):,} tokens to train on, {len(validation):,} to validate")
    print(end=mark_warning(corpus, tokenizer))
    return batches, {corpus.name: (Fraction(1), validation)}


def mark_warning(corpus, tokenizer):
    """A warning where a corpus holds the tokenizer's end-of-text token as ordinary text, else "": to --data a file is
    one text, and what is in it cannot end it."""
    mark = "" if tokenizer.eot is None else tokenizer.decode([tokenizer.eot])
    if not (mark and mark in corpus.text):
        return ""
    return (
        f"warning: {corpus.name} holds {mark} {corpus.text.count(mark):,} times as ordinary text, which ends nothing\n"
        f'  hint : a mixture (docs/data.md) whose source has separator = "{mark}" ends documents there\n'
    )


def mixture_data(dataset, config, block_size, validation_tokens, inside_documents=False):
    """The batches of a Dataset, and the validation texts, each of at most so many tokens.

    inside_documents: whether attention stays inside documents
    """
    eot = dataset.tokenizer.eot
    if inside_documents and eot is None:
        raise ConfigError(
            f"dataset {dataset.path}: its tokenizer, {dataset.tokenizer.name}, has no end-of-text token, so "
            "nothing says where documents begin; leave out --inside-documents"
        )
    batches = MixtureBatches(
        dataset.train(),
        config.batch_size,
        block_size,
        config.seed,
        config.accumulate,
        document_token=eot if inside_documents else None,
    )
    validation = dataset.validation(validation_tokens)
    trained = sum(len(tokens) for _, tokens in batches.sources.values())
    held_out = sum(len(tokens) for _, tokens in validation.values())
    print(f"data    {dataset.path}: {trained:,} tokens to train on, {held_out:,} to validate")
    return batches, validation


def describe_text(path, corpus):
    """What config.json says of a corpus that --data named."""
    return {"path": place(path), "sha256": digest(corpus.text)}


def place(path):
    """Where a file or folder is, from whatever folder the run is resumed; what is no file stays as it is named."""
    return path if path is None or not Path(path).exists() else str(Path(path).resolve())


def describe_mixture(dataset, validation_tokens, inside_documents):
    """What config.json says of a Dataset."""
    return {
        "prepared": str(dataset.path.resolve()),
        "seal": dataset.seal,
        "weights": {source.name: str(source.weight) for source in dataset.sources},
        "validation_tokens": validation_tokens,
        "inside_documents": inside_documents,
    }


def reopen_data(run):
    """The batches that a run was trained on, and its validation texts. DataError if they have changed since, or are
    not where they were."""
    data, config, block_size = run.config["data"], run.train_config, run.model_config.block_size
    if "prepared" in data:
        check_there(data["prepared"], f"--resume {quote(str(run.path))} --prepared FOLDER")
        dataset = Dataset(data["prepared"])
        if dataset.seal != data["seal"]:
            raise DataError(
                f"{dataset.path} is not the data that {run.path} was trained on: the seal of its sources is "
                f"{dataset.seal:.12}, expected {data['seal']:.12}; prepare it as it was, or start another run"
            )
        dataset.weigh(data["weights"])
        return mixture_data(dataset, config, block_size, data["validation_tokens"], data["inside_documents"])
    check_there(data["path"], f"--resume {quote(str(run.path))} --data FILE")
    corpus = load_corpus(data["path"])
    if digest(corpus.text) != data["sha256"]:
        raise DataError(f"{corpus.name} is not the text that {run.path} was trained on; its sha256 differs")
    return text_data(corpus, run.tokenizer, config, block_size)


def check_there(path, option):
    """Raise DataError where the data of a run are no longer there."""
    if path not in (None, "built-in") and not Path(path).exists():
        raise DataError(
            f"{path}, which the run was trained on, is not there any more\n"
            f"  hint : if it was moved, {option} goes on with it: its content is compared with what the run has noted"
        )


def known_floor(corpus, validation):
    """{label: nats per token}: the lowest expected loss, where it is known."""
    tokens = sum(len(tokens) for _, tokens in validation.values())
    characters = len(split(corpus.text)[1])
    return {"entropy of the source": corpus.floor * characters / tokens} if corpus.floor else {}


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def source_table(stream, steps):
    """A table: how many tokens each source of a BatchStream has, its weight, and the passes that so many steps make."""
    used = stream.used(steps)
    rows = [["source", "tokens", "weight", "epochs"]]
    for name, (weight, tokens) in stream.sources.items():
        rows.append([name, f"{len(tokens):,}", f"{float(weight):.2%}", f"{used[name]['epochs']:.2f}"])
    often = [name for name in used if used[name]["epochs"] > MOST_EPOCHS]
    warnings = [
        f"warning: {', '.join(often)}: more than {MOST_EPOCHS} epochs; seen so often, text teaches less each time "
        "(Muennighoff et al. 2023): train fewer steps, or lower the weight"
    ]
    return "\n".join([*aligned(rows), *(warnings if often else [])])


def outcome_table(log, floors):
    """A table of the result in a Log: the share of each source and its error, the passes over it, and its validation
    loss beside its floor, where that is known ({source: nats per token or None})."""
    record = next(record for record in reversed(log.records) if "validation_sources" in record)
    losses = log.result()[1]
    rows = [["source", "asked for", "came", "error", "epochs", "validation", "floor"]]
    for name, used in record["sources"].items():
        shares = [f"{used['requested']:.2%}", f"{used['realised']:.2%}", f"{used['error']:+.3%}"]
        rows.append([name, *shares, f"{used['epochs']:.2f}", digits(losses.get(name)), digits(floors.get(name))])
    return "\n".join(aligned(rows))


def digits(value):
    return "–" if value is None else f"{value:.4f}"
