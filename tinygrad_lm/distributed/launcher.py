"""What is known of the launchers of MPI: where one is, what it wants, and what it tells the processes it starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tinygrad_lm.errors import ConfigError

# A process's number: MPICH, Intel and Slurm's pmi2; PMIx, which Open MPI and Slurm have. And how many there are.
MARKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


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


def started():
    """How many processes a launcher says that it has started with this one; 1 where it does not say."""
    return max(int(os.environ.get(name, 1)) for name in SIZES)


def own_rank():
    """The number that a launcher has given this process; None if none has started it."""
    return next((int(os.environ[name]) for name in MARKS if name in os.environ), None)
