"""One spelling for each text, so that equal texts are equal bytes: for the tokenizer, and to find duplicates."""

import re
import unicodedata

# Category Cc but \t and what str.splitlines takes for a line's end, and U+FEFF, the byte-order mark.
CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff]")
SURROGATES = re.compile("[\ud800-\udfff]")  # half a UTF-16 pair: no UTF-8 can say it


def normalise(text):
    """The text in Unicode's NFC, lines ended by \\n, without control characters and spaces at the ends of lines.

    Page breaks and Unicode's other line ends become \\n too; empty lines around the whole go; a lone surrogate
    becomes U+FFFD. normalise(normalise(text)) = normalise(text): composing comes last, for what is removed may part
    a letter from its accent, and composes no space or control character.
    """
    text = CONTROLS.sub("", SURROGATES.sub("\ufffd", text))
    text = "\n".join(map(str.rstrip, text.splitlines()))
    return unicodedata.normalize("NFC", text).strip("\n")
