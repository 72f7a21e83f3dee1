"""What a model is taught and asked: built-in sets of conversations by name, and files; each has a held-out part.

The held-out part of a file is one question in eight by its hash, so a question that occurs twice is never in both.
"""

import hashlib
import json
from functools import partial
from pathlib import Path

from tinygrad_lm.data.synthetic.instructions import SPLITS, instructions, split_of
from tinygrad_lm.data.synthetic.speeches import play_conversations, play_pairs
from tinygrad_lm.data.synthetic.sums import sums
from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.data.json_lines import read_conversations, read_pairs, read_prompts
from tinygrad_lm.train.data import check_there

BUILT_IN = {
    "instructions": instructions,
    "sums": sums,
    "noisy-sums": partial(sums, noise=0.5),  # half of the demonstrations are wrong
    "play": play_conversations,
}
COUNTS = 20_000, 512  # conversations to train on, and held out


def load_conversations(name, chat):
    """Conversations to train on, and held-out ones."""
    if name in BUILT_IN:
        return drawn(BUILT_IN[name])
    return parted(name, read_conversations(name, chat), lambda conversation: conversation.messages[:-1])


def load_prompts(name):
    """Prompts to train on, and held-out ones: Conversations that end before the answer."""
    if name in BUILT_IN:
        return [list(map(prompt_of, conversations)) for conversations in drawn(BUILT_IN[name])]
    return parted(name, read_prompts(name), lambda prompt: prompt.messages)


def load_pairs(name, chat):
    """Pairs to train on, and held-out ones; the built-in ones are "play"."""
    if name == "play":
        return drawn(play_pairs)
    return parted(name, read_pairs(name, chat), lambda pair: pair.prompt)


def drawn(source):
    """The two parts of a built-in set."""
    return [list(source(count, split=split)) for count, split in zip(COUNTS, SPLITS, strict=True)]


def parted(name, found, question):
    """What was found in a file, in two parts by the hash of its question."""
    parts = {split: [] for split in SPLITS}
    for one in found:
        parts[split_of(json.dumps(question(one)))].append(one)
    if not all(parts.values()):
        raise DataError(
            f"{name}: {len(found):,} with different questions are too few: one question in eight, by its hash, is held "
            "out, and here either none or all were; expected at least some dozens"
        )
    return list(parts.values())


def prompt_of(conversation):
    """A Conversation without its last message, the answer."""
    return conversation._replace(messages=conversation.messages[:-1])


def describe(name):
    """What config.json says of a set that --data named."""
    if name in BUILT_IN:
        return {"path": name}
    return {"path": str(Path(name).resolve()), "sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest()}


def check_unchanged(data):
    """Raise DataError unless the data that `describe` described are as they were."""
    if data["path"] not in BUILT_IN:
        check_there(data["path"], "--resume RUN --data FILE")
    if describe(data["path"]).get("sha256") != data.get("sha256"):
        raise DataError(f"{data['path']} is not the file that the run was trained on; its sha256 differs")
