"""Normalise texts, so that equal texts are equal bytes: for the tokenizer, and to find duplicates."""

import re
import unicodedata

# Category Cc except \t and the line ends of str.splitlines, and U+FEFF, the byte-order mark.
CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff]")
SURROGATES = re.compile("[\ud800-\udfff]")  # half a UTF-16 pair, which UTF-8 cannot express


def normalise(text):
    """The text in Unicode's NFC, with line ends \\n, without control characters and trailing spaces.

    Page breaks and Unicode's other line ends become \\n too; empty lines at both ends are removed; a lone surrogate
    becomes U+FFFD. normalise(normalise(text)) = normalise(text): composition is last, because removed characters may
    separate a letter from its accent, and it produces no space or control character.
    """
    text = CONTROLS.sub("", SURROGATES.sub("\ufffd", text))
    text = "\n".join(map(str.rstrip, text.splitlines()))
    return unicodedata.normalize("NFC", text).strip("\n")
