"""Documents that were there before. Any worker signs; one process, which sees all in their order, remembers."""

import hashlib


def signature(kind, text):
    """Some bytes, as many for every text: those of equal texts are equal."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Duplicates:
    """`seen(signature)`: was there one like it? It is remembered if there was none."""

    def __init__(self, kind):
        self._signatures = set()

    def seen(self, signature):
        if signature in self._signatures:
            return True
        self._signatures.add(signature)
        return False
