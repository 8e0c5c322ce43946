"""What a learner sees in a terminal of 80 columns: tables, lines, silence, a flag that is not."""

import dataclasses
import io
import json
import sys
import threading

import pytest
from rich.console import Console

from days import harness
from days.tools.data import course
from days.tools.learner import notebook

WIDE = [["way", "size", "share of BLAS", "GFLOP/s at 1000³", "at 128³", "milliseconds", "again"],
        ["1 · Python, i j k", "160³", "0.03%", "", "", "18,949.6", "4"],
        ["6 · BLAS", "1024³", "100%", "196", "150", "11.0", "4"]]


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")         # not asked: pytest's output is no terminal


def test_a_wide_table_breaks_its_heads_and_neither_a_name_nor_a_number(capsys):
    harness.print_table(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and "│ 1 · Python, i j k │" in lines[-3]
    assert "18,949.6" in lines[-3] and "share" in "".join(lines[:4])


def test_a_narrow_table_keeps_its_heads_in_one_line(capsys):
    harness.print_table([row[:3] for row in WIDE])
    assert "share of BLAS" in capsys.readouterr().out


def test_a_row_may_be_shorter_than_the_head_and_a_table_may_have_no_rows(capsys):
    harness.print_table([["a", "b"], ["1"]])
    harness.print_table([["a", "b"]])
    assert capsys.readouterr().out.count("b") == 2


def test_numbers_stand_to_the_right_and_numbered_names_to_the_left(capsys):
    harness.print_table([["way", "a long head"], ["1 · one", "5"], ["2 · twenty", "17"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "│ 1 · one    │           5 │"


def test_text_is_broken_between_words_and_means_what_it_says(capsys):
    said = "[bold] and :heart: stay as they are, " + "word " * 30
    harness.print_text(f"{said}\nthe second line")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == "the second line"
    assert " ".join(" ".join(lines[:-1]).split()) == said.strip()


def test_a_cell_is_shown_as_it_is(capsys):
    harness.print_table([["token"], [":heart:"], ["[bold]"]])
    out = capsys.readouterr().out
    assert ":heart:" in out and "[bold]" in out


def company_after(seconds):
    """The thread that speaks when the run has said nothing for so long."""
    before = set(threading.enumerate())
    harness.keep_company(seconds)
    (company,) = set(threading.enumerate()) - before
    return company


def test_a_run_that_is_silent_is_said_to_go_on(capsys):
    company_after(0.01).join(5)
    assert "still working" in capsys.readouterr().err


@pytest.mark.parametrize("word", [lambda: harness.say("fetching"),
                                  lambda: harness.progress(3, "training").__enter__()])
def test_a_run_that_has_said_something_is_left_alone(capsys, word):
    company = company_after(30)
    word()
    company.join(5)
    assert not company.is_alive() and "still working" not in capsys.readouterr().err


def test_what_is_said_while_a_bar_stands_goes_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(harness, "console", lambda stderr=False: Console(
        file=io.StringIO(), force_terminal=True, width=80))
    with harness.progress(2, "outer"):
        with harness.progress(2, "inner"):
            outer, inner = harness.LIVE
            harness.say("fetching")
        harness.say("training")
        assert "fetching" in inner.file.getvalue() and "training" in outer.file.getvalue()
    assert not harness.LIVE


@dataclasses.dataclass(frozen=True)
class Result:
    """One number."""

    value: int


@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_at_the_end_does_not_hide_what_was_measured(
        tmp_path, monkeypatch, capsys, as_json):
    def full(path, data):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(harness, "write_atomically", full)
    with pytest.raises(harness.UsageError, match="not kept.*No space left on device. Free some"):
        harness.run("07", {"out": tmp_path, "json": as_json, "fast": True, "seed": 0},
                    lambda fast, seed: Result(41), lambda result: print("found", result.value),
                    lambda result, path: None)
    out = capsys.readouterr().out
    assert json.loads(out)["value"] == 41 if as_json else out == "found 41\n"


def test_a_flag_that_is_not_is_one_line(monkeypatch, capsys):
    def measure(fast, seed):
        """Nothing."""
    monkeypatch.setattr(sys, "argv", ["run.py", "--fats"])
    with pytest.raises(SystemExit) as end:
        harness.parse("07", measure, None)
    err = capsys.readouterr().err
    assert end.value.code == 2 and len(err.splitlines()) == 1 and "--fats" in err


def test_a_command_to_copy_quotes_a_path_with_spaces(tmp_path, capsys):
    notebook.write(course.ROOT, 7, tmp_path / "a b")
    assert f"lab '{tmp_path}/a b/day07.ipynb'" in capsys.readouterr().out


@pytest.mark.parametrize("day", course.DAYS)
def test_what_a_day_shows_fits_80_columns(day, capsys):
    run = course.load(course.part(course.ROOT, day, "run.py"))
    record = json.loads(course.part(course.ROOT, day, "result.json").read_text(encoding="utf-8"))
    try:
        run.show(run.Result(**{f.name: record[f.name] for f in dataclasses.fields(run.Result)}))
    except (AttributeError, KeyError):
        pytest.skip("its result holds more than JSON gives back")
    wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
    assert not wide
