"""Let a long job stop at a place where it can resume, after Ctrl-C or SIGTERM."""

import os
import signal
import threading
from contextlib import contextmanager


@contextmanager
def stop_signals():
    """Yield a list that receives the name of the first SIGINT or SIGTERM; a second one ends the process."""
    received = []

    def handle(number, frame):
        if received:
            os._exit(128 + number)
        received.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread can handle signals
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
