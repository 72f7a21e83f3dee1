"""How programs end: errors become messages and exit statuses, and what they print may go anywhere."""

import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import wraps

from tinygrad_lm.errors import DataError, DivergedError, TinygradError


def program(main):
    """Decorator: print the errors of main(arguments) as messages, and return the exit status: what main returns or 0,
    or that of an error (`status_of`)."""

    @wraps(main)
    def exit_status(arguments=None):
        with redirect_stderr(Output(sys.stderr, failed=ignore)):  # a message that cannot be written has nowhere to go
            try:
                with checked_output(failed=raise_unwritten):
                    return main(arguments) or 0
            except KeyboardInterrupt as error:
                print("stopped", file=sys.stderr)
                return status_of(error)
            except BrokenPipeError as error:
                return status_of(error)
            except (TinygradError, OSError) as error:
                print(f"error: {error}", file=sys.stderr)
                return status_of(error)

    return exit_status


def run_lesson(main):
    """Run main(), which only prints and draws, as a program; ends the process with its status."""

    def lesson(arguments):
        main()

    sys.exit(program(lesson)())


def status_of(error):
    """The exit status of a process that an error ends.

    1    DivergedError, and errors that should not happen
    2    any other TinygradError or OSError, the status with which argparse ends after a wrong option
    130  Ctrl-C, and 141 when the reader of standard output, such as head, has closed it: 128 + the signal's number
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    known = {KeyboardInterrupt: 130, BrokenPipeError: 141, DivergedError: 1, TinygradError: 2, OSError: 2, object: 1}
    return next(status for kind, status in known.items() if isinstance(error, kind))


@contextmanager
def checked_output(failed):
    """Within the block failed(error) is called when standard output cannot be written; later writes are dropped.

    Everything is flushed at the end, so nothing is left that could fail when the process ends.
    """
    with redirect_stdout(Output(sys.stdout, failed)) as out:
        try:
            yield
        finally:
            out.flush()


def ask(question):
    """A line of standard input. EOFError where that has ended or is closed; what is no text becomes "�"."""
    if sys.stdin is None:
        raise EOFError
    if hasattr(sys.stdin, "reconfigure") and sys.stdin.errors != "replace":  # only before the first read
        sys.stdin.reconfigure(errors="replace")
    return input(question)


def progress_bar(*iterable, **options):
    """A tqdm bar: on a terminal a line, in a notebook a widget, elsewhere nothing."""
    from tqdm.auto import tqdm

    widget = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    hidden = False if widget else None  # None: unless its stream is a terminal
    return tqdm(*iterable, **{"disable": hidden, "dynamic_ncols": True} | options)


def ignore(error):
    """For training, which survives a closed pipe: everything that matters is in the run's folder."""


def raise_unwritten(error):
    """For programs whose result is what they print."""
    if isinstance(error, BrokenPipeError):
        raise error
    raise DataError(f"what this command prints cannot be written: {error.strerror}; write it elsewhere") from error


class Output:
    """A stream that replaces the characters that its encoding lacks. When it cannot be written, the rest is dropped."""

    def __init__(self, stream, failed):
        self.stream, self.failed = stream, failed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self._attempt(self.stream.write, text)

    def flush(self):
        return self._attempt(self.stream.flush)

    def _attempt(self, method, *arguments):
        try:
            return method(*arguments)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # for what is in the stream's buffer, too
            os.close(nowhere)
            self.failed(error)
