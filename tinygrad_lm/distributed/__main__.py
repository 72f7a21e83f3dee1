"""Start a program as several processes, on this machine, with the MPI of this environment.

python -m tinygrad_lm.distributed -n 4 examples/pretrain_shakespeare.py --minutes 5
python -m tinygrad_lm.distributed -n 4 train --minutes 5        # a command of `tinygrad-lm`
"""

import argparse
import os
import secrets
import sys
import tempfile
from pathlib import Path

from tinygrad_lm.commands import COMMAND, COMMANDS
from tinygrad_lm.distributed.launcher import find_launcher
from tinygrad_lm.distributed.supervisor import TIMEOUT, WAITING, time_limit
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.programs import program


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_lm.distributed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", type=int, required=True, metavar="N", help="processes, a power of two")
    parser.add_argument("--timeout", metavar="SECONDS", help="without a sign of life, until a process is lost [30]")
    parser.add_argument("program", help=f"a Python file, or a command of {COMMAND}")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    args = parser.parse_args(arguments)
    if args.n < 1:
        raise ConfigError(f"-n must be at least 1, found {args.n}")
    if args.timeout is not None:
        os.environ[TIMEOUT] = args.timeout
    time_limit()
    launcher, variables = find_launcher()
    waiting = Path(tempfile.gettempdir(), f"tinygrad_lm-{secrets.token_hex(8)}")
    os.environ |= variables | {WAITING: str(waiting)}
    command = [launcher, "-n", str(args.n), sys.executable, "-m", "tinygrad_lm.distributed.supervisor"]
    sys.stdout.flush()
    os.execv(launcher, [*command, *words_of(args.program), *args.arguments])


def words_of(program):
    """What follows "python" to start a program: a command's module, or a file."""
    if program in COMMANDS:
        return ["-m", "tinygrad_lm", program]
    if not Path(program).is_file():
        raise ConfigError(f"{program} is neither a file nor a command of {COMMAND}")
    return [program]


if __name__ == "__main__":
    sys.exit(main())
