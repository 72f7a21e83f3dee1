"""What single tokens spell: to be shown, and as OpenAI's interface writes them."""

from tinygrad_lm.posttrain.chat.chat import SPECIAL

BEFORE = 8  # ids before a token that may decide about its text, such as a space in front of a word


def is_special(chat, token):
    """Whether an id is one of those beyond the vocabulary of the tokenizer."""
    return token >= chat.tokenizer.vocab_size


def spell(chat, token, before=()):
    """{"token": text, "bytes": its UTF-8 or None}: half a character is U+FFFD in the text, and has its bytes if known.

    before: the ids before it
    """
    tokenizer = chat.tokenizer
    if is_special(chat, token):
        beyond = token - tokenizer.vocab_size
        text = f"<|{SPECIAL[beyond] if beyond < chat.vocab_size - tokenizer.vocab_size else token}|>"
    else:
        text = tokenizer.decode([token], [i for i in before[-BEFORE:] if not is_special(chat, i)])
    if "�" in text:
        vocabulary = getattr(tokenizer, "vocabulary", None)  # a published tokenizer.json does not say its bytes
        return {"token": text, "bytes": list(vocabulary[token]) if vocabulary else None}
    return {"token": text, "bytes": list(text.encode())}


def spell_all(chat, tokens):
    """`spell` of each token of a text."""
    return [spell(chat, token, tokens[max(0, i - BEFORE) : i]) for i, token in enumerate(tokens)]


def beginning(tokenizer, text):
    """The ids from which a model continues a plain text; from an empty one, as a document begins."""
    ids = [] if tokenizer.bos is None else [tokenizer.bos]
    if not text and not ids:
        ids = tokenizer.encode("\n").tolist() if tokenizer.eot is None else [tokenizer.eot]
    return [*ids, *tokenizer.encode(text).tolist()]
