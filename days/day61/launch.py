"""Day 61 · Starting ranks with mpirun, where MPI is installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from days.harness import ROOT

CURE = "pip install -r requirements-mpi.txt, then: mpirun -n 2 python days/day61/run.py"


def mpirun():
    """The path of mpirun if mpi4py is there too, else None."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    beside = Path(sysconfig.get_path("scripts")) / "mpirun"          # the wheel's own comes first
    return str(beside) if beside.exists() else shutil.which("mpirun")


def environment():
    """For jobs that this program starts: allowed as root, and with more ranks than cores."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def launch(n, arguments, timeout):
    """`mpirun -n N python ARGUMENTS` to its end; a CompletedProcess with stdout and stderr.

    Raises subprocess.TimeoutExpired, with the whole job ended.
    """
    job = start(n, arguments)
    try:
        out, err = job.communicate(timeout=timeout)
    finally:
        if job.poll() is None:
            job.terminate()                                           # mpirun ends its ranks
            try:
                job.wait(10)
            except subprocess.TimeoutExpired:
                job.kill()
            job.communicate()
    return subprocess.CompletedProcess(job.args, job.returncode, out, err)


def start(n, arguments):
    """The same, as a running Popen."""
    return subprocess.Popen([mpirun(), "-n", str(n), sys.executable, *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                            env=environment())


def under_mpi():
    """Has mpirun started this very process, as one rank of several?"""
    return int(os.environ.get("OMPI_COMM_WORLD_SIZE", os.environ.get("PMI_SIZE", "1"))) > 1
