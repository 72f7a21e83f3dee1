"""How well a model gives the answers of conversations: their loss, and how many it would write word for word."""

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.context import Context
from tinygrad_lm.tables import aligned
from tinygrad_lm.train.objective import IGNORED, next_token
from tinygrad_lm.train.shares import starts_of


def evaluate_conversations(model, stream):
    """The mean loss of a learnt token, in nats, over all rows of a Conversations, each once."""
    losses, counts = zip(*losses_of(model, stream), strict=True)
    return sum(losses) / sum(counts)


def evaluate_by_task(model, streams):
    """The mean loss of a learnt token over several Conversations, {task: stream}, together, and {task: its own}."""
    found = {task: np.sum(losses_of(model, stream), axis=0) for task, stream in streams.items()}
    loss, count = sum(found.values())
    return float(loss / count), {task: float(loss / count) for task, (loss, count) in found.items()}


def losses_of(model, stream):
    """[(the summed loss, how many targets are learnt), …], one a batch."""

    def measure(batch):
        arrays, context = prepared(model, stream, batch)
        with no_grad():
            loss, count = next_token(model, arrays, context)
        return loss.item() * count.item(), count.item()

    return dealt(measure, stream.once())


def exact_match(model, stream):
    """The share of answers in all rows of a Conversations that the model would write if it always took the likeliest
    token: each is its likeliest token by token, its end included, after the conversation as it is."""

    def measure(batch):
        (tokens, targets), context = prepared(model, stream, batch)
        learnt = targets != IGNORED
        with no_grad():
            features = model.features(tokens, context).data[learnt]
            likeliest = model.logits(Tensor.of(features)).data.argmax(axis=-1)
        wrong = np.zeros(learnt.shape, bool)
        wrong[to_device(learnt, "cpu")] = to_device(likeliest != targets[learnt], "cpu")
        return answers_of(to_device(learnt, "cpu"), wrong)

    right, count = np.sum(dealt(measure, stream.once()), axis=0)
    return float(right / count)


def answers_of(learnt, wrong):
    """(right, count): how many answers, which are runs of what is learnt in rows (B, T), have nothing wrong in them."""
    before = np.pad(learnt, ((0, 0), (1, 0)))[:, :-1]
    number = np.cumsum(learnt & ~before).reshape(learnt.shape)  # of the answer that a position belongs to, from 1
    count = number.max(initial=0)
    return count - len(np.unique(number[wrong])), count


def prepared(model, stream, batch):
    """A batch where the model is, and its Context."""
    device, starts = model.flat.device, starts_of(stream, batch[0])
    context = Context(document_starts=None if starts is None else to_device(starts, device))
    return [to_device(x, device) for x in batch], context


class Examination:
    """What a chat model is asked in training: its loss at every evaluation, and more before and after.

    stream(conversations) -> a Conversations of them; learnt: some of those that are trained on.
    """

    def __init__(self, stream, learnt, held_out):
        fitting = stream(held_out).kept
        names = sorted({conversation.task for conversation in fitting})
        by_task = {name: [x for x in fitting if x.task == name] for name in names}
        parts = {"train": learnt, "held out": held_out} | (by_task if len(names) > 1 else {})
        self.tasks = {name: stream(asked) for name, asked in by_task.items()}
        self.shown = {part: stream(asked) for part, asked in parts.items()}
        self.right = {part: stream(list(map(corrected, asked))) for part, asked in parts.items()}

    def __call__(self, model):
        """On held-out conversations the mean loss of a learnt token, {task: its own}, and the share that is right."""
        return *evaluate_by_task(model, self.tasks), {"right": exact_match(model, self.right["held out"])}

    def marks(self, model):
        """{part: [loss, share of answers that are right]}: of what is trained on, of what is held out, and by task."""
        return {
            part: [evaluate_conversations(model, shown), exact_match(model, self.right[part])]
            for part, shown in self.shown.items()
        }


def corrected(conversation):
    """A Conversation that ends with the right answer, where it is known: a demonstration may be wrong."""
    if conversation.verifier not in ("equal", "number"):
        return conversation
    *before, last = conversation.messages
    return conversation._replace(messages=[*before, last | {"content": conversation.answer}])


def marks_table(before, after):
    """A table of the marks of a model before and after training."""
    rows = [["", "loss", "", "answers right", ""], ["", "before", "after", "before", "after"]]
    for part, (loss, right) in after.items():
        was_loss, was_right = before[part]
        rows.append([part, f"{was_loss:.4f}", f"{loss:.4f}", f"{was_right:.1%}", f"{right:.1%}"])
    return "\n".join(aligned(rows))
