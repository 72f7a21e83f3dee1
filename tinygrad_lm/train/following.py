"""The folder of a run as ranks see it that do not write it: rank 0 alone does."""

from contextlib import nullcontext

from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.train.log import Log


def as_rank(kind):
    """A class of RunFolder as this rank has it."""
    return type(kind.__name__, (Following, kind), {}) if world().rank else kind


class UnwrittenLog(Log):
    """A log whose records are kept in memory."""

    def rewrite(self):
        pass

    def append(self, record):
        pass

    def sync(self):
        pass


class Following:
    """In front of a class of RunFolder: what writes does nothing. What rank 0 has written is read."""

    log_class = UnwrittenLog

    def __init__(self, path):
        super().__init__(path)
        self.lock = nullcontext()

    @classmethod
    def create(cls, path, *content, **others):
        world().meet()  # rank 0 has made it
        return cls(path)

    @classmethod
    def locked(cls, path):
        world().meet()  # rank 0 has locked it
        return nullcontext(nullcontext())

    def write_config(self):
        pass

    def save(self, folder, step, state, info):
        pass

    def report(self, model, step):
        pass

    def rewind(self, step):
        self.log.rewind(step)
