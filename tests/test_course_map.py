"""`python -m days` without a command: the map, the minutes, the next step; plain for the ear."""

import re

import pytest

from days import __main__ as cli
from days.tools.data import course, hours
from days.tools.learner import map, progress


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A course whose days 1, 2 and 35 are written."""
    for day in (1, 2, 35):
        folder = tmp_path / "days" / f"day{day:02d}"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(
            "## Question\n\nWhy?\n\n*Time: 40 minutes to read. Builds on: nothing.*\n")
        (folder / "result.json").write_text('{"run_seconds": 120}')
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    return tmp_path


def shown(capsys, *flags):
    assert cli.main(list(flags)) in (0, None)
    return capsys.readouterr().out


def test_each_day_tells_its_minutes_and_the_rest_what_is_left(root, capsys):
    text = shown(capsys)
    assert re.search(r"01 ▲ What is a language model\? +42 min\n", text)
    assert "0 of 3 days passed; 2 hours of reading and running are left." in text
    progress.record(root, 1, "test")              # the supplied test passes without the learner
    assert "0 of 3 days passed" in shown(capsys)
    progress.record(root, 1, "check")
    assert "1 of 3 days passed; 84 minutes of reading and running" in shown(capsys)


@pytest.mark.parametrize("steps, lines", [
    ([], ["first: python -m days doctor", "next: read days/day01/README.md, then python -m days "
          "run 1"]),
    (["1 run"], ["next: read tests/test_day01.py, then python -m days test 1"]),
    (["1 run", "1 test"], ["next: the exercises of day 1, python -m days check 1"]),
    (["1 check"], ["left of day 1: a planted mistake to find, python -m days drill 1",
                   "next: read days/day02/README.md, then python -m days run 2"]),
    (["1 practice", "1 drill"], ["next: read days/day02/README.md"]),
    (["1 check", "2 test"], ["next: the exercises of day 2"]),
    (["1 check", "2 practice", "35 check", "35 drill"], ["all days are passed"])])
def test_the_next_step_follows_what_was_done(root, capsys, steps, lines):
    for step in steps:
        day, what = step.split()
        if what == "drill":
            progress.record_drill(root, int(day), 1)
        else:
            progress.record(root, int(day), what)
    said = shown(capsys).split("are left.\n")[1].splitlines()
    assert len(said) == len(lines), said
    assert all(line.startswith(start) for line, start in zip(said, lines)), said


def test_plain_is_one_sentence_a_day_without_signs(root, capsys):
    for step in map.STEPS:
        progress.record(root, 1, step)
    progress.record_drill(root, 1, 2)
    text = shown(capsys, "--plain")
    assert ("Day 1: What is a language model?, 42 minutes, run, test passed, exercises solved, "
            "written by yourself, 1 planted mistakes found.\n") in text
    assert "Day 3: A tensor engine, not yet written.\n" in text
    assert "Phase 1: Math, vectors, tokens, tensors.\n" in text
    assert not set("▲✓│┏━\033") & set(text) and "  " not in text


def test_the_whole_map_fits_80_columns(monkeypatch, capsys):
    monkeypatch.setattr(progress, "read", lambda root: {
        f"{n:02d}": {**dict.fromkeys(map.STEPS, True), "drills": [1, 2, 3]} for n in course.DAYS})
    text = shown(capsys)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("all four steps drill 3") == len(course.DAYS) and "64 of 64" in text


def test_the_map_of_this_course_names_every_day(capsys):
    for flags in ([], ["--plain"]):
        text = shown(capsys, *flags)
        assert all(day.title[:38].rstrip("?") in text for day in course.DAYS.values())
    assert hours.total(course.ROOT, course.DAYS).whole > 60 * 100
