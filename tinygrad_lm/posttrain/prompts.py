"""What a model is asked: built-in sets of conversations by name."""

from tinygrad_lm.data.synthetic.instructions import instructions
from tinygrad_lm.data.synthetic.speeches import play_conversations
from tinygrad_lm.data.synthetic.sums import sums

BUILT_IN = {"instructions": instructions, "sums": sums, "play": play_conversations}
COUNTS = 20_000, 512  # conversations to train on, and held out


def load_prompts(name):
    """Prompts to train on, and held-out ones: Conversations that end before the answer."""
    found = [BUILT_IN[name](count, split=split) for count, split in zip(COUNTS, ("train", "held-out"), strict=True)]
    return [[prompt_of(conversation) for conversation in conversations] for conversations in found]


def prompt_of(conversation):
    """A Conversation without its last message, the answer."""
    return conversation._replace(messages=conversation.messages[:-1])
