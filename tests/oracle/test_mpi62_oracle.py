"""Day 62 · Tensor, pipeline, ZeRO between processes: each equals one process, over MPI.

Skipped where mpi4py and mpirun are missing: pip install -r requirements-mpi.txt.
"""

import json

import pytest

from days.day61 import launch

pytest.importorskip("mpi4py", reason="no mpi4py: pip install -r requirements-mpi.txt")
if launch.mpirun() is None:
    pytest.skip("no mpirun: pip install -r requirements-mpi.txt", allow_module_level=True)
TIMEOUT = 150                       # seconds for any one job, on a busy machine


@pytest.mark.parametrize("n", [2, 4])
def test_every_way_equals_one_process_between_processes(n):
    job = launch.launch(n, ["-m", "days.day62.real", "--steps", "3"], TIMEOUT)
    assert job.returncode == 0, job.stderr
    found = json.loads(job.stdout.splitlines()[-1])
    assert found["ranks"] == n and len(found["ways"]) == (7 if n == 2 else 8)
    for way, weights, losses, sent, formula in found["ways"]:
        assert weights < 1e-12 and losses < 1e-12, way
        assert sent == pytest.approx(formula), way


def test_mpirun_runs_the_day_itself(tmp_path):
    job = launch.launch(2, ["days/day62/run.py", "--fast", "--json", "--out", tmp_path], TIMEOUT)
    assert job.returncode == 0, job.stderr
    result = json.loads(job.stdout.splitlines()[-1])
    assert result["real"][0]["ranks"] == 2 and result["why_not"] == ""
    assert (tmp_path / "figure.svg").exists()
