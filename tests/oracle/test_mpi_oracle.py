"""Day 61 · The real thing: ranks that are processes, started by mpirun.

Skipped where mpi4py and mpirun are missing: pip install -r requirements-mpi.txt. MPI's own
all-reduce is the oracle for ours. As root, and with more ranks than cores: see launch.environment.
"""

import json
import subprocess
import textwrap

import numpy as np
import pytest

from days.day61 import launch
from days.day61.job import Job, State, apart, train
from days.day61.scaling import losing
from llm.train.keeper import Checkpoints

pytest.importorskip("mpi4py", reason="no mpi4py: pip install -r requirements-mpi.txt")
if launch.mpirun() is None:
    pytest.skip("no mpirun: pip install -r requirements-mpi.txt", allow_module_level=True)
TIMEOUT = 150                       # seconds for any one job, on a busy machine


def ranks(n, program, tmp_path):
    """Run a program on n ranks; its imports and `comm` are given. Returns the finished job."""
    path = tmp_path / "program.py"
    path.write_text("import sys, numpy as np\n"
                    "from llm.scale.allreduce import *\nfrom llm.scale.comm import *\n"
                    "from llm.scale.link import Metered\n"
                    "with ending_together(MPIComm(20)) as comm:\n"
                    + textwrap.indent(textwrap.dedent(program), "    "))
    return launch.launch(n, [path], TIMEOUT)


@pytest.mark.parametrize("n", [2, 4])
def test_our_collectives_equal_mpis(n, tmp_path):
    job = ranks(n, """
        for size in (0, 1, 3, 1000, 300_001):
            mine = np.random.default_rng(comm.rank).standard_normal(size).astype(np.float32)
            theirs = np.empty_like(mine)
            comm.world.Allreduce(mine, theirs)
            for f in (ring_allreduce, tree_allreduce, root_allreduce):
                metered = Metered(comm)
                ours = f(metered, mine.copy())
                assert np.allclose(ours, theirs, atol=1e-5), f
                first = broadcast(comm, ours.copy())
                assert first.tobytes() == ours.tobytes(), f
                sent = tree_allreduce(comm, np.array([metered.bytes]))[0]
                assert sent == 2 * (comm.size - 1) * mine.nbytes, (f, sent)
            comm.barrier()
        assert comm.here == comm.size and not comm.pending
        print("fine", flush=True)
        """, tmp_path)
    assert job.returncode == 0, job.stderr
    assert job.stdout.splitlines() == ["fine"] * n


@pytest.mark.parametrize("n", [2, 4])
def test_training_on_real_ranks_equals_one_process(n):
    job = launch.launch(n, ["-m", "days.day61.real", "measure", "--fast"], TIMEOUT)
    assert job.returncode == 0, job.stderr
    found = json.loads(job.stdout.splitlines()[-1])
    assert found["ranks"] == n and found["threads"] == 1
    assert found["weights_apart"] < 1e-12 and found["losses_apart"] < 1e-12
    assert found["sent_by_all"] == found["formula"]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_lost_rank_ends_the_job_and_fewer_ranks_go_on(how, tmp_path):
    rng = np.random.default_rng(0 if how == "killed" else 1)
    n, rank, step = 4, int(rng.integers(4)), int(rng.integers(6, 20))
    command = ["-m", "days.day61.real", "train", "--folder", tmp_path, "--steps", 22]
    freeze = ["--freeze", "--patience", 5] if how == "frozen" else []
    first = launch.launch(n, [*command, "--lose", rank, step, *freeze], TIMEOUT)
    assert first.returncode not in (0, None) and "died" in json.loads(first.stdout.splitlines()[0])
    if how == "killed":
        assert f"process rank {rank} " in first.stderr and "signal 9" in first.stderr
    else:
        assert "RankLost: rank" in first.stderr and "has waited 5 s for rank" in first.stderr
    state = State(Job(dtype="float64"))
    assert Checkpoints(tmp_path, state.parts).restore().step == (step - 1) // 5 * 5
    second = launch.launch(n - 1, command, TIMEOUT)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout.splitlines()[-1])["began"] == (step - 1) // 5 * 5
    assert Checkpoints(tmp_path, state.parts).restore().step == 22
    one = train(None, Job(dtype="float64"), 22).weights
    assert apart({name: p.data for name, p in state.parameters.items()}, one) < 1e-12


def test_a_killed_rank_ends_the_job_within_ten_seconds():
    lost = losing(seed=2, ranks=2, steps=20)
    assert lost["seconds"] < 10 and lost["status"] != 0
    assert lost["loaded"] == (lost["step"] - 1) // 5 * 5 and lost["apart"] < 1e-12
    assert any("another rank has died" in line for line in lost["said"])


def test_an_error_on_one_rank_is_told_and_ends_all(tmp_path):
    job = ranks(2, """
        if comm.rank:
            raise ValueError("the second rank is broken")
        comm.recv(np.zeros(1), 1)
        """, tmp_path)
    assert job.returncode == 1
    assert "rank 1 of 2: ValueError: the second rank is broken" in job.stderr
    job = ranks(2, """
        if comm.rank == 0:
            comm.send(np.zeros(3), 1)
            comm.barrier()
        else:
            comm.recv(np.zeros(2), 0)
        """, tmp_path)
    assert "rank 1 expected 16 bytes from rank 0 and got 24: the ranks disagree" in job.stderr
    job = ranks(2, """
        comm.patience = 1
        if comm.rank == 0:
            comm.barrier()
        else:
            import time
            time.sleep(20)
        """, tmp_path)
    assert "rank 0 has waited 1 s for all ranks at a barrier" in job.stderr


def test_mpirun_runs_the_day_itself(tmp_path):
    job = launch.launch(2, ["days/day61/run.py", "--fast", "--json", "--out", tmp_path], TIMEOUT)
    assert job.returncode == 0, job.stderr
    result = json.loads(job.stdout.splitlines()[-1])
    (row,) = result["real"]
    assert row["ranks"] == 2 and row["together"][1] > 0 and result["why_not"] == ""
    assert (tmp_path / "figure.svg").exists()


def test_a_job_that_does_not_end_is_ended(tmp_path):
    path = tmp_path / "sleeps.py"
    path.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(subprocess.TimeoutExpired):
        launch.launch(2, [path], 3)
