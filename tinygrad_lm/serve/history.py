"""What of a conversation a model can read: its context is limited, so the oldest turns make room."""

from tinygrad_lm.errors import ConfigError


def fit(chat, messages, size, room):
    """(ids of the prompt, how many messages were left out), with at least `room` of `size` positions free behind it.

    The oldest turns are left out first, each with its answer; the system's message and the last turn stay. ConfigError
    if these alone are too long.
    """
    kept = list(messages)
    while len(prompt := chat.prompt(kept)) > size - room:
        turns = [i for i, message in enumerate(kept) if message["role"] == "user"]
        if len(turns) < 2:
            raise ConfigError(
                f"the message is too long: with its template it has {len(prompt)} tokens, and the model's context of "
                f"{size} has room for {size - room} beside an answer of {room}"
            )
        del kept[turns[0] : turns[1]]
    return prompt, len(messages) - len(kept)
