"""One request at a time uses the model, which computes with all cores; the others wait in line."""

import threading
import time
from collections import deque
from contextlib import contextmanager

from tinygrad_lm.serve.refusal import Gone, Refusal

LOOK = 0.2  # seconds between two looks at whether a waiting client is still there


class Line:
    """waiting: how many requests may wait beside the one that is served; patience: for how many seconds."""

    def __init__(self, waiting=8, patience=60.0):
        self.waiting, self.patience = waiting, patience
        self.line, self.moved = deque(), threading.Condition()

    @contextmanager
    def turn(self, gone):
        """Within the block the model belongs to this request. gone(): has its client hung up?

        Refusal if the line is full (429) or does not move (503); Gone if the client does not wait.
        """
        me, until = object(), time.monotonic() + self.patience
        with self.moved:
            if len(self.line) > self.waiting:
                raise Refusal(
                    429, f"{len(self.line)} requests are in line; try again later", None, "busy", {"Retry-After": "5"}
                )
            self.line.append(me)
        try:
            with self.moved:
                while self.line[0] is not me:
                    if gone():
                        raise Gone
                    if time.monotonic() >= until:
                        message = f"the model was busy for {self.patience:g} seconds; try again later"
                        raise Refusal(503, message, None, "busy", {"Retry-After": "30"})
                    self.moved.wait(LOOK)
            yield
        finally:
            with self.moved:
                self.line.remove(me)
                self.moved.notify_all()
