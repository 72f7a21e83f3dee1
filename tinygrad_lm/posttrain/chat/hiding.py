"""Encode the text that a chat template wrote, where only the template's own special tokens are special.

A special token within a message is hidden before the template sees it: by a mark after its first character, which the
tokenizer removes when it has found the tokens that are special. So the text is still encoded as a whole, and where
nothing was hidden the ids are those of any other program.
"""

import json
import re
from itertools import pairwise

import numpy as np

MARK, CUT = "\ufdd0", "\ufdd1"  # never characters: Unicode reserves them for use inside programs


class HidingTokenizer:
    """The tokenizer of a JsonTokenizer's files, for the texts of a chat template, whose source is `template`.

    ids: {text: id} of all tokens that were added to the vocabulary. Hidden are those that the tokenizer calls special,
    and others that the template uses; but in answers these stay, because a template may look there for "</think>".
    """

    def __init__(self, files, template):
        import tokenizers

        content = json.loads(files["tokenizer.json"])
        added = content["added_tokens"] = [token | {"normalized": False} for token in content.get("added_tokens") or []]
        self.ids = {token["content"]: token["id"] for token in added}
        special = [token["content"] for token in added if token["special"]]
        used = [text for text in self.ids if text in template and not text.isspace()]
        self.in_answers, self.elsewhere = beginnings(special), beginnings(special + used)
        # Special tokens are looked for in the text as it is, and normalisation comes after that.
        removed = {"type": "Replace", "pattern": {"String": MARK}, "content": ""}
        steps = [removed, *filter(None, [content.get("normalizer")])]
        content["normalizer"] = {"type": "Sequence", "normalizers": steps}
        self.library = tokenizers.Tokenizer.from_str(json.dumps(content))
        self.library.no_truncation()
        self.library.no_padding()
        self.library.add_special_tokens([tokenizers.AddedToken(CUT, normalized=False)])
        self.cut = self.library.token_to_id(CUT)

    def hide(self, message):
        """The message with its special tokens hidden."""
        pattern = self.in_answers if message["role"] == "assistant" else self.elsewhere
        return message | {"content": pattern.sub(rf"\g<0>{MARK}", message["content"])}

    def encode(self, text, cuts=()):
        """(number of tokens,) int32 of a text, in which what is hidden is not special.

        cuts: places in the text that no token reaches over
        """
        text = CUT.join(text[start:stop] for start, stop in pairwise([0, *cuts, len(text)]))
        ids = np.array(self.library.encode(text, add_special_tokens=False).ids, np.int32)
        return ids[ids != self.cut]


def beginnings(tokens):
    """A pattern of the first character of each token in a text, also of one that only begins at the text's end: what
    the template writes after it could complete it."""
    whole = [re.escape(token) for token in tokens]
    begun = {re.escape(token[:n]) + r"\s*\Z" for token in tokens for n in range(1, len(token))}
    return re.compile(f"(?=(?:{'|'.join([*whole, *begun]) or '(?!)'})).", re.DOTALL)
