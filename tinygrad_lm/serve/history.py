"""What of a conversation a model can read: its context is limited, so the oldest turns make room."""

from bisect import bisect_left

from tinygrad_lm.errors import ConfigError


def fit(chat, messages, size, room):
    """(ids of the prompt, how many messages were left out), with at least `room` of `size` positions free behind it.

    The oldest turns are left out first, each with its answer; the system's message and the last turn stay. ConfigError
    if these alone are too long.
    """
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"] or [0]
    prompt = lambda turns: chat.prompt([*messages[: starts[0]], *messages[starts[turns] :]])
    turns = bisect_left(range(len(starts)), True, key=lambda turns: len(prompt(turns)) <= size - room)
    if turns == len(starts):
        raise ConfigError(
            f"the message is too long: with its template it has {len(prompt(-1))} tokens, and the model's context of "
            f"{size} has room for {size - room} beside an answer of {room}"
        )
    return prompt(turns), starts[turns] - starts[0]
