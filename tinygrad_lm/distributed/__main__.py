"""Start a program as several processes, on this machine, with the MPI of this environment.

python -m tinygrad_lm.distributed -n 4 examples/pretrain_shakespeare.py --minutes 5
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tinygrad_lm.distributed.watch import VARIABLE, time_limit
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
    parser.add_argument("program", help="a Python file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    args = parser.parse_args(arguments)
    if args.n < 1:
        raise ConfigError(f"-n must be at least 1, found {args.n}")
    if args.timeout is not None:
        os.environ[VARIABLE] = args.timeout
    time_limit()
    launcher, variables = find_launcher()
    os.environ |= variables
    command = [launcher, "-n", str(args.n), sys.executable, args.program, *args.arguments]
    sys.stdout.flush()
    os.execv(launcher, command)


def find_launcher():
    """(path, environment variables) of mpiexec: this environment's, or another of the path.

    Open MPI wants to be told that it may start processes as root, and more of them than there are cores.
    """
    for folder in (Path(sys.executable).parent, None):
        if path := shutil.which("mpiexec", path=folder):
            break
    else:
        raise ConfigError("there is no mpiexec, which starts the processes: pip install 'tinygrad-lm[mpi]'")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" not in version and "OpenRTE" not in version:
        return path, {}
    names = "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"
    return path, dict.fromkeys(names, "1") | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


if __name__ == "__main__":
    sys.exit(main())
