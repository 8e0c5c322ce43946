"""The first-run check: each fault, planted, is told with its cure."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from days import __main__ as cli
from days.tools.data import course
from days.tools.learner import doctor

REQUIREMENTS = "# why\nnumpy>=2.1,<3   # arrays\nrich>=13\n-e .   # the package\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A course with nothing but what the doctor reads, and a cache of its own."""
    for name in [*doctor.THREADS, "NUMBA_CACHE_DIR", "NO_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "llm" / "data").mkdir(parents=True)
    shutil.copy(course.ROOT / "llm/data/download.py", tmp_path / "llm/data/download.py")
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    (tmp_path / "pyproject.toml").write_text('requires-python = ">=3.11"\n')
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "ask_index", lambda: "")
    return tmp_path


def states(lines):
    lines = list(lines)
    assert all(bool(cure) == (state != doctor.FINE) for state, _, cure in lines), lines
    return [state for state, _, _ in lines]


def test_a_sound_machine_has_no_fault(root, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "compiler", lambda root: [(doctor.FINE, "compiles", "")])
    monkeypatch.setattr(cli, "ROOT", root)
    assert cli.main(["doctor", "--plain"]) == 0
    shown = capsys.readouterr().out
    assert "0 faults" in shown and "python -m days run 1" in shown and "ok: numpy" in shown
    assert shown.isascii() and "\033" not in shown


def test_a_fault_is_status_1_and_its_cure_stands_below(root, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "compiler", lambda root: [(doctor.FAULT, "broken", "mend it")])
    assert doctor.doctor(root) == 1
    shown = capsys.readouterr().out
    assert "✗ broken\n  → mend it\n" in shown and "1 fault," in shown


@pytest.mark.parametrize("version, state", [((3, 10, 9), "FAULT"), ((3, 11, 0), "ok")])
def test_an_old_python_is_a_fault(root, monkeypatch, version, state):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    assert states(doctor.python(root)) == [state]


def test_the_systems_python_is_a_remark(root, monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert states(doctor.python(root)) == ["ok", "note"]


def test_a_missing_and_an_old_package_are_faults(root, monkeypatch):
    assert states(doctor.packages(root)) == ["ok", "ok"]
    have = {"numpy": "1.26.4"}

    def version(name):
        if name not in have:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return have[name]
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    old, missing = doctor.packages(root)
    assert old[:2] == ("FAULT", "numpy 1.26.4, but >=2.1,<3 is wanted")
    assert missing[:2] == ("FAULT", "rich is not installed (wanted: >=13)")
    assert "requirements.txt" in old[2] and "requirements.txt" in missing[2]


@pytest.mark.parametrize("version, wanted, fine", [
    ("2.1.0", ">=2.1,<3", True), ("3.0", ">=2.1,<3", False), ("3.0.0rc1", "<3", False),
    ("0.70", ">=0.61,<0.70", False), ("0.9", ">=0.61", False), ("15.0.0", ">=13.7,<16", True),
    ("2.0", "==2", True), ("2.0", "!=2", False), ("2.13.0+cpu", "<=2.13.0", True),
    ("2.2", ">2.2", False), ("1", "", True), ("2.0.9", ">=2.1", False)])
def test_versions_are_compared_as_numbers(version, wanted, fine):
    assert doctor.meets(version, wanted) == fine


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of so many cores, affinity and control groups."""
    def made(count, mine, files):
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(mine), raising=False)
        for name, text in files.items():
            (tmp_path / "cg" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cg" / name).write_text(text)
        return lambda: list(doctor.cores(None, tmp_path / "cg" / "self", tmp_path / "cg"))
    return made


@pytest.mark.parametrize("files, mine, free, state", [
    ({}, 8, 8, "ok"), ({}, 2, 2, "ok"), ({}, 1, 1, "note"),
    ({"self": "0::/a/b\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"},
     8, 2, "note"),
    ({"self": "0::/\n", "cpu.max": "50000 100000\n"}, 8, 1, "note"),
    ({"self": "0::/\n", "cpu.max": "50000 0\n"}, 3, 3, "ok"),
    ({"self": "3:cpu,cpuacct:/x\n", "cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n",
      "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}, 8, 3, "note"),
    ({"self": "4:memory:/x\n", "memory/x/cpu.max": "100000 100000\n"}, 8, 8, "ok")])
def test_cores_are_those_that_affinity_and_quota_leave(root, machine, files, mine, free, state):
    [(found, said, cure)] = machine(8, mine, files)()
    assert found == state and bool(cure) == (state != "ok")
    assert said.startswith(f"{free} of 8 cores")


def test_more_and_fewer_threads_than_cores_are_remarks(root, machine, monkeypatch):
    ask = machine(4, 2, {})
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    [(state, said, cure)] = ask()
    assert state == "note" and "asks for 4" in said and "unset OPENBLAS_NUM_THREADS" in cure
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    fine, (state, said, cure) = ask()
    assert fine[0] == "ok" and state == "note" and "OPENBLAS_NUM_THREADS=1 is set" in said


def answer(**changes):
    facts = {"right": True, "seconds": 1.0, "threads": 2, "layer": "omp", "blas": "b 1", **changes}
    return lambda *a, **k: subprocess.CompletedProcess(a, 0, json.dumps(facts), "")


def fails(*a, **k):
    return subprocess.CompletedProcess(a, 1, "", "Traceback\nImportError: no llvmlite\n")


def hangs(*a, **k):
    raise subprocess.TimeoutExpired(a, 180)


@pytest.mark.parametrize("run, state, word", [
    (answer(), "ok", "2 threads by omp"), (answer(right=False), "FAULT", "wrong sum"),
    (fails, "FAULT", "ImportError: no llvmlite"), (hangs, "FAULT", "180 s")])
def test_a_compiler_that_fails_hangs_or_errs_is_a_fault(root, monkeypatch, run, state, word):
    monkeypatch.setattr(doctor.subprocess, "run", run)
    lines = list(doctor.compiler(root))
    assert word in lines[0][1] and states(lines)[0] == state


def test_without_numba_no_kernel_is_tried(root, monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: name != "numba")
    [(state, said, cure)] = doctor.compiler(root)
    assert state == "FAULT" and "numba cannot be found" in said


def test_the_probe_compiles_for_real():
    lines = list(doctor.compiler(course.ROOT))
    assert states(lines) == ["ok", "ok"] and "threads by" in lines[0][1]


def test_folders_that_cannot_be_written_are_told(root, monkeypatch):
    assert states(doctor.cache(root)) == states(doctor.kernels(root)) == ["ok"]
    monkeypatch.setattr(doctor, "writable", lambda folder: False)
    assert states(doctor.cache(root)) == ["FAULT"] and states(doctor.kernels(root)) == ["note"]
    assert "LLM_CACHE" in next(doctor.cache(root))[2]
    assert "NUMBA_CACHE_DIR" in next(doctor.kernels(root))[2]


def test_writable_asks_the_nearest_folder_and_makes_none(tmp_path):
    assert doctor.writable(tmp_path / "a" / "b") and not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    assert not doctor.writable(tmp_path / "file" / "x")


def test_the_network_is_asked_only_while_the_text_is_missing(root, monkeypatch):
    assert "index" in next(doctor.network(root))[1]
    monkeypatch.setattr(doctor, "ask_index", lambda: "no answer within 8 s")
    [(state, said, cure)] = doctor.network(root)
    assert state == "note" and "no answer" in said and "language reference" in cure
    monkeypatch.setattr(doctor, "installed", lambda name: False)
    assert "ensurepip" in next(doctor.network(root))[2]
    (root / "cache" / doctor.TEXT).write_text("To be")
    assert states(doctor.network(root)) == ["ok"]


@pytest.mark.parametrize("run, said", [
    (lambda *a, **k: subprocess.CompletedProcess(a, 0, "", ""), ""),
    (lambda *a, **k: subprocess.CompletedProcess(a, 1, "", "x"), "out of reach"),
    (hangs, "no answer")])
def test_pips_index_is_asked_with_a_short_timeout(monkeypatch, run, said):
    seen = {}

    def spy(command, **options):
        seen.update(options)
        return run(command, **options)
    monkeypatch.setattr(doctor.subprocess, "run", spy)
    assert said in doctor.ask_index() and seen["timeout"] <= 15
    assert said or doctor.ask_index() == ""


@pytest.mark.parametrize("free, state", [(1e8, "FAULT"), (1e9, "note"), (9e9, "ok")])
def test_a_full_disk_is_told(root, monkeypatch, free, state):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(free))
    monkeypatch.setenv("LLM_CACHE", str(root / "not" / "yet"))
    assert states(doctor.disk(root)) == [state]


def test_the_text_is_named_as_day_01_keeps_it():
    assert f'"{doctor.TEXT}"' in Path(course.ROOT / "llm/data/text.py").read_text("utf-8")


def test_it_works_where_no_package_is_installed():
    done = subprocess.run([sys.executable, "-S", "-m", "days", "doctor", "--plain"],
                          cwd=course.ROOT, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 1 and not done.stderr, done.stderr
    for name in ("numpy", "numba", "matplotlib", "rich", "pytest"):
        assert f"FAULT: {name} is not installed" in done.stdout
    assert "no kernel was tried: numpy and numba" in done.stdout
