"""A process for each rank of a job that waits for it, and names it if it ends, or hangs, without a word of its own.

Launchers end a job in which a process has failed, but not all of them say which: MPICH's names none that calls
`os._exit`, and may name one that it has killed itself. And none knows of a rank that hangs before it has joined.

    supervised()                                                  # by the rank itself, before it joins
    python -m tinygrad_lm.distributed.supervisor PROGRAM …        # as `python PROGRAM …`, watched from its start on
"""

import math
import os
import platform
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from tinygrad_lm.distributed.launcher import own_rank, started
from tinygrad_lm.errors import ConfigError

TIMEOUT = "TINYGRAD_LM_TIMEOUT"  # environment variables: `time_limit`
LINE = "TINYGRAD_LM_SUPERVISOR"  # the file descriptor through which a rank speaks to its supervisor
WAITING = "TINYGRAD_LM_WAITING"  # the path of a file that is there while a rank of the job waits for others to join
BEAT = 0.2  # seconds between two looks
BEGUN, JOINS, JOINED, LEFT = b"b", b"j", b"d", b"l"  # what a rank says
WHEN = {BEGUN: "before it had come to the others", JOINS: "while it joined the others", JOINED: "without a word"}
HINT = "  hint : the newest checkpoint is whole; --resume RUN goes on, with as many processes as are left"
_line = None


def time_limit():
    """Seconds without a sign of life after which a rank counts as lost."""
    text = os.environ.get(TIMEOUT, "30")
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ConfigError(f"{TIMEOUT} must be a positive number of seconds, found {text!r}")
    return limit


def supervised():
    """Continue in a child process, for which this one waits: unless that has been done, or this is not one of several
    that a launcher has started, or it has joined them already."""
    global _line
    if LINE in os.environ:
        _line = int(os.environ.pop(LINE))
        os.set_inheritable(_line, False)
    possible = own_rank() is not None and started() > 1 and "mpi4py.MPI" not in sys.modules and hasattr(os, "fork")
    if _line is None and possible:
        limit = time_limit()
        reading, _line = os.pipe()
        numbers = signal.SIGINT, signal.SIGTERM
        before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # until it is clear who handles them
        if child := os.fork():
            os.close(_line)
            asked = []
            for number in numbers:  # launchers send them to the child, too
                signal.signal(number, lambda number, frame: asked.append(number))
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os._exit(Supervisor(child, os.fdopen(reading, "rb", 0), limit, asked).run())
        os.close(reading)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def say(word):
    """Let this rank's supervisor know where it is."""
    if _line is not None:
        with suppress(BrokenPipeError):
            os.write(_line, word)


class Supervisor:
    """What waits for a rank.

    child: its process; line: a file of what it says; asked: a list of the signals by which the job was asked to stop
    """

    def __init__(self, child, line, limit, asked):
        self.child, self.line, self.limit, self.asked = child, line, limit, asked
        os.set_blocking(line.fileno(), False)
        self.said, self.beats = BEGUN, 0
        self.mark = Path(os.environ[WAITING]) if WAITING in os.environ else None

    def run(self):
        """Wait until the rank has ended. Returns the exit status that is the job's, too."""
        while True:
            select.select([self.line], [], [], BEAT)
            ended, status = os.waitpid(self.child, os.WNOHANG)
            words = self.line.read(4096)  # None: nothing yet; empty: nobody is there who could speak
            if words:
                self.heard(words[-1:])
            elif words == b"" and not ended:
                ended, status = os.waitpid(self.child, 0)
            if ended:
                return self.ended(os.waitstatus_to_exitcode(status))
            if problem := self.problem():
                return self.end(problem)

    def heard(self, word):
        """The rank has said where it is."""
        self.said, self.beats = word, 0
        if self.mark and word == JOINS:
            self.mark.touch()
        elif self.mark:  # now all are there, or will not be
            self.mark.unlink(missing_ok=True)

    def problem(self):
        """What is wrong with a rank that has not yet joined; None if nothing is."""
        others_wait = self.said == BEGUN and self.mark and self.mark.exists()
        self.beats += self.said == JOINS or bool(others_wait)  # not by a clock: all processes may have been stopped
        waited = self.beats * BEAT
        if others_wait and waited > self.limit:
            return f"has not come to the others, which have waited for it for {self.limit:g} s"
        if self.said == JOINS and waited > self.limit + 2:  # a rank that has not come is named before
            return f"has waited for others for {self.limit:g} s, and not all of them have come"
        return None

    def ended(self, status):
        """Name a rank that has ended without having left the others. Returns the exit status."""
        code = 128 - status if status < 0 else status
        if self.said in (JOINS, JOINED) or (self.said == BEGUN and code):
            code, how = code or 1, f"ended with status {status}"
            if status < 0:
                how = f"was ended by signal {-status} ({signal.strsignal(-status)})"
            self.tell(f"{how} {WHEN[self.said]}", HINT if self.said == JOINED else "")
        return code

    def end(self, problem):
        """End a rank that hangs; one that has not come says where it is. Returns the exit status."""
        lost = self.said == BEGUN
        self.tell(problem, "it is here:" if lost else "")
        for number in (signal.SIGABRT, signal.SIGKILL) if lost else (signal.SIGKILL,):
            with suppress(ProcessLookupError):
                os.kill(self.child, number)
            time.sleep(BEAT)
        return 1

    def tell(self, problem, more):
        """Print what is wrong with the rank, unless it was asked to stop."""
        if self.mark:
            self.mark.unlink(missing_ok=True)
        if not self.asked:
            name = f"rank {own_rank()} (process {self.child} on {platform.node()})"
            print(f"error: {name} {problem}\n{more}".rstrip(), file=sys.__stderr__, flush=True)
            time.sleep(5 * BEAT)  # MPICH's launcher drops what it has not read when it ends all


if __name__ == "__main__":
    os.environ["PYTHONFAULTHANDLER"] = "1"  # so that SIGABRT makes it say where it is
    supervised()
    if _line is not None:
        os.set_inheritable(_line, True)
        os.environ[LINE] = str(_line)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
