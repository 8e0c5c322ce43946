"""The house itself: each kind of fault, planted in a miniature course, must be reported.

The miniature has two days of one function each. The tools under test are the real ones; only
the tree they look at is small.
"""

import doctest
import json
import os
import queue
import shutil
import signal
import subprocess
import sys

import pytest

from days import __main__ as cli
from days.harness import UsageError
from days.mistake import Mistake
from days.tools.author import record, write
from days.tools.checks import (
    faults,
    figures,
    mutants,
    notes,
    numbers,
    prose,
    replay,
    static,
    trials,
)
from days.tools.data import course, first_run, generated, ownership, scratch
from days.tools.learner import check, drill, practice, progress, tags

RUN = '''"""Day {n:02d} · Doubling, measured."""

from dataclasses import dataclass

from days.harness import main, print_table


@dataclass(frozen=True)
class Result:
    """One number."""

    value: float


def measure(fast, seed):
    from llm.functions.{name} import {f}
    return Result({f}(1.5))


def table(result):
    return [["what", "value"], ["{f}(1.5)", f"{{result.value:.2f}}"]]


def show(result):
    print_table(table(result))


def draw(result, path):
    path.write_text(f"<svg><text>{{result.value}}</text></svg>\\n")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
'''

TEST = '''"""Day {n:02d} · Tests of {f}."""

from llm.functions.{name} import {f}


def test_of_three():
    assert {f}(3) == {three}
'''

MISTAKES = '''"""Day {n:02d} · Mistakes."""

from days.mistake import Mistake

MISTAKES = [
    Mistake("one more", "llm/functions/{name}.py", "    return {body}", "    return {body} + 1",
            "too large by one"),
    Mistake("one less", "llm/functions/{name}.py", "    return {body}", "    return {body} - 1",
            "too small by one"),
]
'''

EXERCISES = '''"""Day {n:02d} · Exercises."""


def half(x):
    """Half of x."""
    raise NotImplementedError


def check_half(f):
    assert f(4) == 2, "half of 4 is 2"
'''

SOLUTION = '''"""Day {n:02d} · Solutions."""


def half(x):
    """Half of x."""
    return x / 2
'''

FUNCTIONS = {
    "first": {"n": 1, "name": "first", "f": "double", "three": 6, "body": "2 * x", "imports": ""},
    "second": {"n": 2, "name": "second", "f": "quadruple", "three": 12,
               "body": "double(double(x))",
               "imports": "from llm.functions.first import double\n\n\n"},
}


def note(n, name, f, body, **_):
    """A note that keeps every promise."""
    text = f"# Day {n:02d} · A title\n\n"
    earlier = "day 01" if n > 1 else "nothing"
    for heading in notes.HEADINGS:
        text += f"## {heading}\n\n" + "word " * 110 + "\n\n"
        if heading == "Build":
            text += (f'```python llm/functions/{name}.py\ndef {f}(x):\n    """{f} of x."""\n'
                     f"    return {body}\n```\n\n")
        if heading == "Measure":
            text += ("<!-- result -->\n<!-- /result -->\n\nIt is <!--=value:.1f-->?<!--/-->.\n\n"
                     "![one point](figure.svg)\n\n")
        if heading == "Question":
            text += f"Time: a minute to read (<!--=seed-->0<!--/--> s). Builds on {earlier}.\n\n"
        if heading == notes.TRADE_OFFS:
            text += "**Reflect.** It worked.\n\n"
        if heading == "Exercises":
            text += "<details><summary>Answer</summary>Yes.</details>\n\n"
    return text


def put(root, path, text):
    """Write one file of a tree, folders and all."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def swap(root, path, old, new):
    """Replace text that must be there."""
    text = (root / path).read_text(encoding="utf-8")
    assert old in text
    put(root, path, text.replace(old, new))


def git(root, *arguments):
    """The output of git in a tree."""
    return subprocess.run(["git", "-c", "user.name=A learner", "-c", "user.email=me@here",
                           *arguments], cwd=root, check=True, capture_output=True,
                          encoding="utf-8").stdout


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The miniature course, complete and committed."""
    root = tmp_path_factory.mktemp("a mini") / "course"
    frame = course.ROOT / "days"
    for path in [*frame.glob("*.py"), *frame.glob("tools/**/*.py")]:
        put(root, path.relative_to(course.ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for name in ("pyproject.toml", ".gitignore"):
        put(root, name, (course.ROOT / name).read_text(encoding="utf-8"))
    for room in ("", "functions/", "kernels/"):
        put(root, f"llm/{room}__init__.py", '"""A room."""\n')
    for name, one in FUNCTIONS.items():
        day = f"days/day{one['n']:02d}"
        put(root, f"llm/functions/{name}.py",
            f'"""Day {one["n"]:02d} · {one["f"]}."""\n\n{one["imports"]}def {one["f"]}(x):\n'
            f'    """{one["f"]} of x."""\n    return {one["body"]}\n')
        for path, text in [("run.py", RUN), ("mistakes.py", MISTAKES),
                           ("exercises.py", EXERCISES), ("solution.py", SOLUTION)]:
            put(root, f"{day}/{path}", text.format(**one))
        put(root, f"tests/test_day{one['n']:02d}.py", TEST.format(**one))
        put(root, f"{day}/README.md", note(**one))
        put(root, f"{day}/figure.svg", f"<svg><text>{one['three'] / 2}</text></svg>\n")
        put(root, f"{day}/result.json", json.dumps(
            {"value": one["three"] / 2, "seed": 0, "fast": False, "machine": "this one"}))
    put(root, "README.md", "# Course\n\n<!-- map -->\n<!-- /map -->\n")
    assert write.write(root, None) == 0
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "all")
    return root


@pytest.fixture
def mini(original, tmp_path):
    """A copy of the miniature that a test may spoil."""
    return shutil.copytree(original, tmp_path / "a course")


def spoil_test_owner(root):
    swap(root, "tests/test_day01.py", '"""Day 01', '"""Day 02')


def spoil_parts(root):
    (root / "days/day02/figure.svg").unlink()


def spoil_markers(root):
    swap(root, "days/day02/README.md", "<!--/-->", "")


SPOILS = {
    "forward import": (
        lambda r: swap(r, "llm/functions/first.py", "def ",
                       "import llm.functions.second\n\n\ndef "),
        "llm/functions/first.py: imports llm.functions.second, of day 02"),
    "forward import inside a function": (
        lambda r: swap(r, "llm/functions/first.py", "    return",
                       "    from .second import quadruple\n    return"),
        "llm/functions/first.py: imports llm.functions.second, of day 02"),
    "forward import of a test": (
        lambda r: swap(r, "tests/test_day01.py", "from llm",
                       "import days.day02.run\nfrom llm"),
        "tests/test_day01.py: imports days.day02.run, of day 02"),
    "the frame imports a day": (
        lambda r: swap(r, "days/mistake.py", "from dataclasses",
                       "import llm.functions.first\nfrom dataclasses"),
        "days/mistake.py: imports llm.functions.first, of day 01, but the file belongs to the fr"),
    "a day imports an experiment": (
        lambda r: [put(r, "experiments/trial.py", '"""Day 01 · A trial."""\nSTEPS = 9\n'),
                   swap(r, "days/day01/run.py", "from dataclasses",
                        "from experiments.trial import STEPS\nfrom dataclasses")],
        "days/day01/run.py: imports experiments.trial, but experiments use the days"),
    "a day imports an experiment inside a function": (
        lambda r: [put(r, "experiments/trial.py", '"""Day 01 · A trial."""\nSTEPS = 9\n'),
                   swap(r, "days/day01/run.py", "    return",
                        "    from experiments import trial\n    return")],
        "days/day01/run.py: imports experiments.trial, but experiments use the days"),
    "llm imports an experiment": (
        lambda r: [put(r, "experiments/trial.py", '"""Day 01 · A trial."""\nSTEPS = 9\n'),
                   swap(r, "llm/functions/first.py", "    return",
                        "    from experiments import trial\n    return")],
        "llm/functions/first.py: imports experiments.trial, but llm/ knows nothing of experim"),
    "the frame imports an experiment": (
        lambda r: [put(r, "experiments/trial.py", '"""A trial of the frame."""\nSTEPS = 9\n'),
                   swap(r, "days/mistake.py", "from dataclasses",
                        "import experiments.trial\nfrom dataclasses")],
        "days/mistake.py: imports experiments.trial, but experiments use the days"),
    "no such module": (
        lambda r: swap(r, "tests/test_day01.py", "from llm", "import llm.nowhere\nfrom llm"),
        "imports llm.nowhere, which no file of the course defines"),
    "no owner": (
        lambda r: put(r, "llm/functions/lost.py", '"""Lost."""\n'),
        "llm/functions/lost.py: has no owner"),
    "an unknown place": (
        lambda r: [put(r, "tests/data.bin", "x"), git(r, "add", "tests/data.bin")],
        "tests/data.bin: has no owner"),
    "two owners": (spoil_test_owner, "tests/test_day01.py: has two owners, day 01 and day 02"),
    "two owners of a page": (
        lambda r: put(r, "notes/page.md", "<!-- Day 01 -->\n<!-- Day 02 -->\n"),
        "notes/page.md: has two owners"),
    "a day too many": (
        lambda r: put(r, "llm/functions/late.py", '"""Day 65 · Late."""\n'),
        "llm/functions/late.py: belongs to day 65, which the course does not have"),
    "torch in llm": (
        lambda r: swap(r, "llm/functions/first.py", "    return", "    import torch\n    return"),
        "llm/functions/first.py: imports torch, but llm/ imports NumPy"),
    "torch after an if": (
        lambda r: swap(r, "llm/functions/first.py", "def ",
                       "if True:\n    import torch\n\n\ndef "),
        "llm/functions/first.py: imports torch, but llm/ imports NumPy"),
    "a peer after a try": (
        lambda r: swap(r, "days/day01/run.py", "from dataclasses",
                       "try:\n    import torch\nexcept ImportError:\n    pass\nfrom dataclasses"),
        "days/day01/run.py: imports torch, which requirements.txt does not install"),
    "torch by name": (
        lambda r: swap(r, "llm/functions/first.py", "    return",
                       "    import importlib\n    importlib.import_module('torch')\n    return"),
        "llm/functions/first.py: imports torch, but llm/ imports NumPy"),
    "a later day by a renamed import_module": (
        lambda r: swap(r, "llm/functions/first.py", "    return",
                       "    from importlib import import_module as get\n"
                       "    get('.second', __package__)\n    return"),
        "llm/functions/first.py: imports llm.functions.second, of day 02"),
    "a name that is computed": (
        lambda r: swap(r, "llm/functions/first.py", "    return",
                       "    __import__('tor' + 'ch')\n    return"),
        "llm/functions/first.py: imports a module whose name is not written out, so nobody can"),
    "torch in text that is run": (
        lambda r: swap(r, "llm/functions/first.py", "    return",
                       "    exec('import torch')\n    return"),
        "llm/functions/first.py: imports torch, but llm/ imports NumPy"),
    "a later day in text that is run": (
        lambda r: swap(r, "llm/functions/first.py", "def ",
                       "TEXT = f'''\nfrom llm.functions.second import {7}\n'''\n\n\ndef run():\n"
                       "    exec(compile(TEXT, 'x', 'exec'))\n\n\ndef "),
        "llm/functions/first.py: imports llm.functions.second, of day 02"),
    "llvmlite outside the kernels": (
        lambda r: swap(r, "llm/functions/first.py", "def ", "import llvmlite.ir\n\n\ndef "),
        "llm/functions/first.py: imports llvmlite.ir, but llm/ imports NumPy"),
    "mpi4py at the top of a file": (
        lambda r: put(r, "llm/scale/ranks.py", '"""Day 02 · Ranks."""\nfrom mpi4py import MPI\n'),
        "llm/scale/ranks.py: imports mpi4py, which is an extra: import it inside the function"),
    "Starlette beside the server": (
        lambda r: put(r, "llm/generate/web.py",
                      '"""Day 02 · Web."""\ndef f():\n    import starlette\n'),
        "llm/generate/web.py: imports starlette, but llm/ imports NumPy"),
    "a peer in a day": (
        lambda r: swap(r, "days/day01/run.py", "from dataclasses",
                       "import transformers\nfrom dataclasses"),
        "days/day01/run.py: imports transformers, which requirements.txt does not install"),
    "rooms": (
        lambda r: put(r, "llm/kernels/fast.py",
                      '"""Day 02 · Fast."""\nfrom llm.functions import first\n'),
        "llm/kernels/fast.py: imports llm.functions.first, but kernels/ does not import functions"),
    "code in a package file": (
        lambda r: put(r, "llm/functions/__init__.py", '"""A room."""\nx = 1\n'),
        "llm/functions/__init__.py: an __init__.py is a docstring and nothing else"),
    "not Python": (
        lambda r: put(r, "llm/functions/bad.py", '"""Day 01 · Bad."""\ndef (:\n'),
        "llm/functions/bad.py: is not Python"),
    "too long": (
        lambda r: put(r, "llm/functions/long.py", '"""Day 01 · Long."""\n' + "\n" * 200),
        "llm/functions/long.py: has 201 lines; 200 at most"),
    "fragment": (
        lambda r: swap(r, "days/day02/README.md", "return double(double(x))", "return 4 * x"),
        "the fragment 'def quadruple(x):' is not verbatim in llm/functions/second.py"),
    "fragment of a later day": (
        lambda r: swap(r, "days/day01/README.md", "```python llm/functions/first.py\n",
                       "```python llm/functions/second.py\ndef quadruple(x):\n```\n"
                       "```python llm/functions/first.py\n"),
        "shows llm/functions/second.py, which belongs to day 02"),
    "fragment of no file": (
        lambda r: swap(r, "days/day02/README.md", "functions/second.py", "functions/third.py"),
        "a fragment is said to be from llm/functions/third.py, which is not there"),
    "a fragment that starts within a line": (
        lambda r: swap(r, "days/day02/README.md", "\ndef quadruple(x):", "\nquadruple(x):"),
        "the fragment 'quadruple(x):' is not verbatim in llm/functions/second.py"),
    "an empty fragment": (
        lambda r: swap(r, "days/day02/README.md", '\ndef quadruple(x):\n    """quadruple of x."""\n'
                       "    return double(double(x))\n", "\n"),
        "a fragment of llm/functions/second.py is empty"),
    "a table without its end": (
        lambda r: swap(r, "days/day02/README.md", "<!-- /result -->\n", ""),
        "has no table between one <!-- result --> and one <!-- /result -->"),
    "a map without its end": (
        lambda r: swap(r, "README.md", "<!-- /map -->", ""), "README.md: has no <!-- map --> bl"),
    "stale table": (
        lambda r: swap(r, "days/day02/README.md", "| quadruple(1.5) | 6.00 |",
                       "| quadruple(1.5) | 6.01 |"),
        "days/day02/README.md: is stale at '| quadruple(1.5) | 6.01 |'"),
    "stale value": (
        lambda r: swap(r, "days/day02/README.md", "-->6.0<!--", "-->6.1<!--"),
        "days/day02/README.md: is stale at 'It is"),
    "stale value on a page beside the note": (
        lambda r: put(r, "days/day02/beside.md", "It is <!--=value:.1f-->6.1<!--/-->.\n"),
        "days/day02/beside.md: is stale at 'It is"),
    "open marker": (spoil_markers, "a value marker <!--=…--> is not closed"),
    "marker without field": (
        lambda r: swap(r, "days/day02/README.md", "<!--=value:.1f-->", "<!--=valve:.1f-->"),
        "marker <!--=valve:.1f-->: NameError"),
    "no heading": (
        lambda r: swap(r, "days/day02/README.md", "## Derive", "## Deriving"),
        "has no heading ## Derive"),
    "order of headings": (
        lambda r: [swap(r, "days/day02/README.md", *pair) for pair in
                   [("## Derive", "## X"), ("## Build", "## Derive"), ("## X", "## Build")]],
        "the headings are out of order"),
    "too short": (
        lambda r: swap(r, "days/day02/README.md", "word " * 30, ""),
        "words of prose; 1,200 to 3,000 are wanted"),
    "too long for a note": (
        lambda r: swap(r, "days/day02/README.md", "word " * 100, "word " * 300),
        "words of prose; 1,200 to 3,000 are wanted"),
    "no reflection": (
        lambda r: swap(r, "days/day02/README.md", "**Reflect.** It", "Reflect. It"),
        "where this lives today has no paragraph that begins with **Reflect.**"),
    "a review within a phase": (
        lambda r: swap(r, "days/day02/README.md", "## Tomorrow",
                       "## Tomorrow\n\nword\n\n## Phase 1 in review"),
        "has a strange heading ## Phase 1 in review"),
    "broken link": (
        lambda r: swap(r, "days/day02/README.md", "![one", "[see](../nothing.md) ![one"),
        "days/day02/README.md: links to ../nothing.md, which is not there"),
    "link to a day without a note": (
        lambda r: swap(r, "days/day02/README.md", "![one", "[Day 3](../day03/README.md) ![one"),
        "links to ../day03/README.md, which is not there; write <!--=day(3)-->?<!--/--> instead"),
    "link to no heading": (
        lambda r: swap(r, "days/day02/README.md", "![one", "[see](../day01/README.md#deriv) ![one"),
        "links to ../day01/README.md#deriv, but there is no such heading"),
    "builds on a later day": (
        lambda r: swap(r, "days/day02/README.md", "on day 01", "on days 01 to 02"),
        "days/day02/README.md: builds on day 02, which is not an earlier one"),
    "builds on nothing told": (
        lambda r: swap(r, "days/day02/README.md", "Builds on", "Comes after"),
        "days/day02/README.md: Question does not say what the day builds on"),
    "builds on a day without a note": (
        lambda r: (r / "days/day01/README.md").unlink(),
        "days/day02/README.md: builds on day 01, which has no note yet"),
    "missing part": (spoil_parts, "days/day02/figure.svg: is missing"),
    "missing test": (
        lambda r: (r / "tests/test_day02.py").unlink(), "tests/test_day02.py: is missing"),
    "result of a fast run": (
        lambda r: swap(r, "days/day02/result.json", "false", "true"),
        "days/day02/result.json: is from --fast"),
    "full result of the usual run": (
        lambda r: shutil.copy(r / "days/day02/result.json", r / "days/day02/full.json"),
        "days/day02/full.json: is from another kind of run; run `python -m days record 2 --full`"),
    "a number outside a marker": (
        lambda r: swap(r, "days/day02/README.md", "![one", "It was 4.2 % less.\n\n![one"),
        "days/day02/README.md: numbers in Measure that no run stands behind: 4.2 (line "),
    "a number in the words for the figure": (
        lambda r: swap(r, "days/day02/README.md", "![one", "![42"),
        "numbers in Measure that no run stands behind: 42 (line "),
    "a declaration that nothing needs": (
        lambda r: swap(r, "days/day02/README.md", "![one", "<!-- given: 64 -->\n\n![one"),
        "declares as given what Measure does not say: 64"),
    "right line absent": (
        lambda r: swap(r, "days/day02/mistakes.py", '"    return double(double(x))", "    return '
                       'double(double(x)) + 1"', '"    return 5 * x", "    return 6 * x"'),
        "'one more': its right line stands 0 times in llm/functions/second.py, not once"),
    "one mistake only": (
        lambda r: put(r, "days/day02/mistakes.py", "MISTAKES = []\n"),
        "days/day02/mistakes.py: has 0 mistakes"),
    "no solution": (
        lambda r: swap(r, "days/day02/solution.py", "def half", "def third"),
        "days/day02/solution.py: has no half"),
    "broken exercises": (
        lambda r: put(r, "days/day02/exercises.py", "1 / 0\n"), "cannot be read: ZeroDivision"),
    "stale map": (
        lambda r: swap(r, "README.md", "language model", "tongue model"),
        "README.md: the map, the"),
    "stale value of another record": (
        lambda r: swap(r, "README.md", "# Course\n", "# Course\n\n"
                       "<!--=days/day01/result.json: value:.1f-->9.9<!--/-->\n"),
        "README.md: the map, the"),
    "no map": (
        lambda r: swap(r, "README.md", "<!-- map -->", ""), "README.md: has no <!-- map --> block"),
}


def test_a_sound_course_has_no_faults(mini):
    assert static.faults(mini) == []


@pytest.mark.parametrize("name", SPOILS)
def test_each_planted_fault_is_reported(mini, name):
    spoil, expected = SPOILS[name]
    spoil(mini)
    found = static.faults(mini)
    assert any(expected in fault for fault in found), found


def test_words_are_those_of_the_prose():
    text = ("Three words here – `not these two`, $a + b$ nor $$c\n+ d$$ <!-- nor\nthis -->\n"
            "| nor | this |\n```text\nnor this\n```\n<details><summary>two more</summary>\n"
            "- [a link](somewhere/else.md)\n")
    assert prose.words(text) == 3 + 1 + 2 + 2       # "nor" stands between two formulas
    assert [len(line) for line in prose.prose(text).split("\n")] == [
        len(line) for line in text.split("\n")]


@pytest.mark.parametrize("sentence, expected", [
    ("It is 4.2 times as fast, by 29 % or 1,024 nats, at .46, 2 and 1e-57.",
     ["4.2", "29", "1,024", ".46", "2", "1e-57"]),
    ("It costs $0.31$ nats and ${1{,}024}$ more, $x = 0.4$.", ["0.31", "1,024"]),
    ("On day 35 and days 04, 05 and 27 to 29, since 2017, section 3.2, figure 5, row 2.", []),
    ("GPT-2, float32, cl100k, a 7-gram, 16-bit, the 3rd at T = 1,024, C 128, 0 or 1.", []),
    ("A gain of 2000.5, of 2000 %, 1 %, a 29-fold, T = 0.5, a 4 and A 5.",
     ["2000.5", "2000", "1", "29", "0.5", "4", "5"]),
    ("1. One.\n2. Two, `x = 0.3`.\n<!-- a comment: 3 -->", []),
    ("| made | by hand |\n| 4 | 0.3 |\n| <!--=x-->0.2<!--/--> | $x+0.5$ |", ["0.3"]),
    ("<!-- result -->\n| 0.3 |\n<!-- /result -->\n```text\n0.3\n```", []),
    ("<!-- given: 64, 1,024; 0.9 -->\nFrom 64 to 1,024 at 0.9 and 0.95.", ["0.95"]),
    ("About <!--=x-->0.2<!--/-->, with 3 seeds (day <!--=y-->9<!--/-->).", ["3"]),
])
def test_numbers_that_need_a_run_are_found(sentence, expected):
    text = f"## Derive\n\n17 and 4.\n\n## Measure\n\n{sentence}\n\n## Tomorrow\n\n18.\n"
    assert [found.number for found in numbers.unmarked(text)] == expected
    assert all(found.line >= 7 for found in numbers.unmarked(text))
    assert not numbers.unused(text)


def test_a_number_in_words_for_a_picture_is_found_anywhere():
    text = "## Understand\n\n![29 of them](figure.svg)\n![30 too](photo.png)\n\n## Measure\n"
    assert [(found.line, found.number) for found in numbers.unmarked(text)] == [(3, "29")]


def test_numbers_without_a_run_are_faults_and_are_listed(mini, monkeypatch, capsys):
    swap(mini, "days/day02/README.md", "![one", "It was 4.2 % less.\n\n![one")
    monkeypatch.setattr(cli, "ROOT", mini)
    assert cli.main(["verify", "--quick", "--numbers"]) == 1
    said = capsys.readouterr().out
    assert "numbers in Measure that no run stands behind: 4.2" in said and "1 faults" in said
    assert "It was 4.2 % less." in said and "days/day02/README.md:" in said
    assert cli.main(["verify", "--quick", "--numbers", "--days", "1"]) == 0
    assert "It was 4.2 % less." not in capsys.readouterr().out


def test_headings_are_named_as_github_does(tmp_path):
    put(tmp_path, "a.md", "# A *b*, c-d: `e_f`!\n## Same\n## Same\n<a id=\"own\"></a>\n"
                          "[1](#a-b-c-d-e_f) [2](#same-1) [3](#own) [4](b.md) [5](a.md#same)\n")
    assert list(notes.links(tmp_path, "a.md")) == ["a.md: links to b.md, which is not there"]


@pytest.mark.parametrize("line, wrong", [
    ("Builds on: days 7, 08 (sums of 99) and 9 to 11, and on [sections 2 to 40](x.md).", []),
    ("Builds on days 07 and 12; the model is day 13's.", ["12", "13"]),
    ("Builds on: days 10–12\nand 14.", ["12", "14"]), ("Builds on day 0.", ["00"])])
def test_days_that_a_note_builds_on(tmp_path, line, wrong):
    for day in range(1, 13):
        put(tmp_path, f"days/day{day:02d}/README.md", "")
    text = f"## Question\n\nWhy? Day 20 tells.\n\n*Reading: 3 minutes. {line}*\n\n## Derive\n"
    assert [f.split()[3].strip(",") for f in notes.builds_on(text, tmp_path, 12)] == wrong


def test_a_link_to_a_day_is_written_once_there_is_a_note(mini):
    swap(mini, "days/day02/README.md", "![one", "Then <!--=day(3)-->?<!--/-->.\n\n![one")
    write.write(mini, [2])
    assert "-->Day 03 (not yet written)<!--/-->." in (mini / "days/day02/README.md").read_text()
    put(mini, "days/day03/README.md", "")
    write.write(mini, [2])
    assert "-->[Day 03](../day03/README.md)<!--/-->." in (
        mini / "days/day02/README.md").read_text()


def test_the_last_day_of_a_phase_may_look_back_on_it():
    text = note(8, "first", "f", "x") + "## Phase 1 in review\n\nIt was long.\n"
    assert list(notes.shape(text, 8)) == []
    assert "strange heading" in next(notes.shape(text.replace("Phase 1", "Phase 2"), 8))
    moved = text.replace("## Tomorrow", "## X").replace("## Phase 1 in review", "## Tomorrow")
    assert next(notes.shape(moved.replace("## X", "## Phase 1 in review"), 8))


def test_a_day_without_a_note_may_lack_parts(mini):
    for name in ("README.md", "solution.py", "figure.svg"):
        (mini / "days/day02" / name).unlink()
    write.write(mini, None)
    assert static.faults(mini) == []


def test_three_rooms_may_import_one_thing_more(mini):
    put(mini, "llm/kernels/words.py", '"""Day 02 · Words."""\nfrom llvmlite import ir\n')
    put(mini, "llm/scale/ranks.py",
        '"""Day 02 · Ranks."""\ndef f():\n    from mpi4py import MPI\n    return MPI\n')
    put(mini, "llm/generate/server.py",
        '"""Day 02 · Server."""\ndef f():\n    import starlette.routing\n')
    put(mini, "llm/functions/more.py", '"""Day 02 · More.\n\nimport torch\n"""\nimport re\n\n'
                                       'model = eval("1")\nre.compile("x")\n')
    assert [fault for fault in static.faults(mini) if "imports" in fault] == []


def test_rooms_import_one_way():
    from graphlib import TopologicalSorter

    from days.tools.checks.imports import ROOMS
    assert set(TopologicalSorter(ROOMS).static_order()) == set(ROOMS)


def test_write_is_idempotent_and_leaves_code_alone():
    text = "a <!--=x:.1f-->old<!--/--> b\n```text\n<!--=x-->old<!--/-->\n```\n"
    once = generated.note(text, {"x": 2.04}, [["h"], [1]])
    assert once == "a <!--=x:.1f-->2.0<!--/--> b\n```text\n<!--=x-->old<!--/-->\n```\n"
    assert generated.note(once, {"x": 2.04}, [["h"], [1]]) == once


def test_files_are_the_same_with_and_without_git(mini):
    put(mini, ".course/practice01/llm/x.py", "")
    put(mini, "llm/__pycache__/x.pyc", "")
    with_git = ownership.files(mini)
    shutil.rmtree(mini / ".git")
    assert ownership.files(mini) == with_git


def test_what_a_reader_keeps_here_is_none_of_the_courses(mini):
    for path in ["mynotes.txt", ".DS_Store", "llm/.DS_Store", "llm/try.ipynb", ".vscode/set.json",
                 "mine/model.py", "days/todo.txt", "tests/.idea/x.py"]:
        put(mini, path, "x")
    before = ownership.files(mini)
    assert static.faults(mini) == [] and "mynotes.txt" not in before
    put(mini, "llm/functions/new.json", "{}")               # claimed by nobody: a reader's
    put(mini, "experiments/new.py", '"""Day 02 · New."""\n')
    put(mini, "experiments/new.json", "{}")
    assert set(ownership.files(mini)) - set(before) == {"experiments/new.py",
                                                        "experiments/new.json"}


def test_what_a_reader_commits_outside_the_rooms_stays_on_every_day(mini):
    put(mini, "mynotes.md", "[dead](link.md)")
    put(mini, "mine/model.py", "import torch\n")
    git(mini, "add", ".")
    git(mini, "commit", "-qm", "mine")
    assert static.faults(mini) == []
    tags.build(mini)
    assert {"mynotes.md", "mine/model.py"} <= set(
        git(mini, "ls-tree", "-r", "--name-only", "day01").split())


def test_without_git_the_files_are_walked(mini, monkeypatch):
    with_git = ownership.files(mini)
    monkeypatch.setenv("PATH", "")
    assert ownership.files(mini) == with_git
    assert static.faults(mini) == []
    with pytest.raises(UsageError, match="git is not installed"):
        tags.build(mini)


def test_the_first_run_in_the_readme_is_what_the_main_day_shows(mini, monkeypatch, capsys):
    monkeypatch.setattr(first_run, "MAIN", 2)
    page = "Only two\nlines.\n\nTHREE.\nA line,\nand one more.\n\nLAST.\nOne,\ntwo.\n"
    swap(mini, "days/day02/result.json", '"seed"', f'"page": {json.dumps(page)}, "seed"')
    swap(mini, "README.md", "# Course\n",
         "# Course\n\n<!-- first-run -->\n```text\nold\n```\n\nIt is <!--=value:.1f-->?<!--/-->.\n"
         "<!-- /first-run -->\n")
    stale = "README.md: the map, the first run or a value is stale"
    assert any(stale in fault for fault in static.faults(mini))
    assert write.write(mini, []) == 0 and static.faults(mini) == []
    text = (mini / "README.md").read_text(encoding="utf-8")
    assert "```text\nTHREE.\nA line,\nand one more.\n[…]\n┏━" in text
    assert "│ quadruple(1.5) │  6.00 │" in text and "It is <!--=value:.1f-->6.0<!--/-->." in text
    assert first_run.excerpt("a\nb\nc\nd") == "a\nb\nc"
    assert record.record(mini, [2]) == 1                    # the new result has no page
    assert "README.md: KeyError: 'page'" in capsys.readouterr().err
    assert any("README.md: cannot be written: KeyError" in fault for fault in static.faults(mini))


def test_an_open_marker_does_not_swallow_the_next_one():
    text = "<!--=x--> and <!--=x-->?<!--/-->"
    assert generated.values(text, {"x": 1}) == "<!--=x--> and <!--=x-->1<!--/-->"


# --- the replay

def test_replay_passes_a_sound_course(original):
    tally = replay.Tally()
    replay.replay(original, {2}, 2, tally)
    assert tally == replay.Tally(days=1, mistakes=2, solutions=1, faults=[])


def test_replay_reports_what_fails_only_when_run(mini):
    swap(mini, "tests/test_day01.py", "== 6", "in (6, 7)")      # 'one more' now passes
    swap(mini, "days/day01/solution.py", "x / 2", "x / 3")
    swap(mini, "days/day01/exercises.py", "raise NotImplementedError", "return x / 2")
    swap(mini, "days/day01/run.py", "    return Result", "    print('hello')\n    return Result")
    swap(mini, "tests/test_day02.py", "    assert", "    import importlib\n"
         "    importlib.import_module('llm.functions.third')\n    assert")
    put(mini, "llm/functions/third.py", '"""Day 03 · Later."""\n')
    tally = replay.Tally()
    replay.replay(mini, {1, 2}, 2, tally)
    assert (tally.days, tally.mistakes, tally.solutions) == (2, 1, 1)
    for expected in [
            "days/day01/mistakes.py: with 'one more' planted the test passes",
            "days/day01/solution.py: fails half: half of 4 is 2",
            "days/day01/exercises.py: pass half; a stub must say raise NotImplementedError",
            "days/day01/run.py --fast --json: does not print one JSON object",
            "tests/test_day02.py: FAILED"]:
        assert any(expected in " ".join(fault.split()) for fault in tally.faults), tally.faults
    assert len(tally.faults) == 5


def test_processes_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    monkeypatch.setattr(os, "environ", {"MKL_NUM_THREADS": "5"})
    scratch.share_cores(2)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3" and os.environ["MKL_NUM_THREADS"] == "5"
    monkeypatch.setattr(os, "environ", {})
    scratch.share_cores(8)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_replay_makes_the_tree_anew_before_each_job(mini):
    """A solution and a run that break the day's test would else make every mistake 'caught'."""
    swap(mini, "tests/test_day01.py", "== 6", "in (6, 7)")          # 'one more' passes
    swap(mini, "days/day01/solution.py", "    return x / 2",
         "    open('tests/test_day01.py', 'a').write('def test_no():\\n    assert False\\n')\n"
         "    return x / 2")
    swap(mini, "days/day01/run.py", "    return Result",
         "    open('tests/conftest.py', 'w').write('1 / 0')\n    return Result")
    tally = replay.Tally()
    replay.replay(mini, {1}, 1, tally)
    assert (tally.mistakes, tally.solutions) == (1, 1)
    assert [fault for fault in tally.faults if "'one more' planted the test passes" in fault]
    assert len(tally.faults) == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_at_each_day_of_the_replay_no_file_of_a_later_day_is_there(mini, jobs):
    look = ("    import pathlib\n    names = [str(path) for path in pathlib.Path().rglob('*')]\n"
            "    assert not [name for name in names if 'day02' in name or 'second' in name]\n"
            "    assert")
    swap(mini, "tests/test_day01.py", "    assert", look)
    tally = replay.Tally()
    replay.replay(mini, None, jobs, tally)
    assert tally == replay.Tally(days=2, mistakes=4, solutions=2, faults=[])
    tally = replay.Tally()
    replay.replay(mini, None, jobs, tally, minutes=0)
    assert tally == replay.Tally(days=2, mistakes=0, solutions=2, faults=[], left=4)


def test_a_copy_becomes_the_tree_of_another_day(mini, tmp_path):
    owners, copy = ownership.owners_of(mini), tmp_path / "copy"
    scratch.restore(mini, owners, copy, 2)
    put(copy, "llm/functions/__pycache__/first.pyc", "compiled")
    put(copy, "runs/day01/result.json", "{}")
    before = (copy / "tests/test_day01.py").stat()
    put(copy, "tests/test_day01.py", "x" * before.st_size)
    os.utime(copy / "tests/test_day01.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    scratch.restore(mini, owners, copy, 1)
    there = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert there == {path for path, owner in owners.items() if owner <= 1} | {
        "llm/functions/__pycache__/first.pyc"}
    assert all((copy / path).read_bytes() == (mini / path).read_bytes() for path in there
               if path in owners)


def test_compiled_code_comes_with_its_source_and_comes_back_with_it(mini, tmp_path):
    owners, copy = ownership.owners_of(mini), tmp_path / "copy"
    compiled = ["first.f-1.py311.nbi", "first.f-1.py311.1.nbc"]
    for name in (*compiled, "firstborn.f-1.py311.nbi", "first.cpython-311.pyc"):
        put(mini, f"llm/functions/__pycache__/{name}", "of the tree")
    scratch.restore(mini, owners, copy, 1)
    folder = copy / "llm/functions/__pycache__"
    assert sorted(p.name for p in folder.iterdir()) == sorted(compiled)
    for name in ("llm/functions/first.py", *(f"llm/functions/__pycache__/{n}" for n in compiled)):
        assert (copy / name).stat().st_mtime_ns == (mini / name).stat().st_mtime_ns
    put(copy, "llm/functions/first.py", "a mistake")
    put(copy, f"llm/functions/__pycache__/{compiled[1]}", "of the mistake")
    scratch.restore(mini, owners, copy, 1)
    assert (folder / compiled[1]).read_text() == "of the tree"
    (folder / compiled[0]).unlink()
    put(copy, f"llm/functions/__pycache__/{compiled[1]}", "made here")
    scratch.restore(mini, owners, copy, 1)
    assert (folder / compiled[0]).read_text() == "of the tree"
    assert (folder / compiled[1]).read_text() == "made here"


def test_what_is_compiled_of_a_mistake_and_of_its_importers_is_thrown_away(mini, tmp_path):
    put(mini, "llm/functions/inner.py", "import numba\nONE = 1\n")
    put(mini, "llm/functions/outer.py", "from llm.functions import (\n    inner,  # a note\n)\n")
    put(mini, "llm/functions/outmost.py", "def f():\n    import llm.functions.outer as o\n")
    put(mini, "llm/functions/innermost.py", "from llm.functions.first import inner\n")
    found = scratch.importers(mini, "llm/functions/inner.py")
    assert {path.name for path in found} == {"inner.py", "outer.py", "outmost.py"}
    for name in ("inner", "outer", "innermost"):
        put(mini, f"llm/functions/__pycache__/{name}.f-1.py311.nbi", "compiled")
    planted = Mistake("One", "llm/functions/inner.py", "ONE = 1", "ONE = 2", "none")
    assert trials.mistake(mini, 1, planted)[1] == 0                  # no test looks at it
    folder = mini / "llm/functions/__pycache__"
    assert [path.name for path in folder.glob("*.nb?")] == ["innermost.f-1.py311.nbi"]


def test_compiled_code_of_a_mutant_does_not_outlive_it_in_those_that_call_it(mini, tmp_path):
    text = '"""Day 01 · Inner."""\nimport numba\nONE = 1\n'
    put(mini, "llm/functions/inner.py", text)
    put(mini, "llm/functions/outer.py", '"""Day 01 · Outer."""\nfrom llm.functions import inner\n')
    compiled = "llm/functions/__pycache__/outer.f-1.py311.nbi"
    put(mini, compiled, "of the tree")
    copy, copies = tmp_path / "copy", queue.SimpleQueue()
    scratch.fill(mini, ownership.owners_of(mini), copy, lambda owner: True)
    copies.put(copy)
    put(copy, "tests/test_day01.py", "from pathlib import Path\n\n\ndef test_one():\n"
        f"    stale = Path({compiled!r})\n    assert not stale.exists()\n"
        "    stale.write_text('of the mutant')\n")
    mutant = next(m for m in mutants.mutants_of("llm/functions/inner.py", text) if m.new == "2")
    assert (copy / compiled).read_text() == "of the tree"
    assert mutants.survived(mini, copies, 1, mutant, 60)
    assert (copy / compiled).read_text() == "of the tree"
    assert (copy / mutant.file).read_text(encoding="utf-8") == text


def test_replay_compares_the_figure_with_a_fresh_one(mini):
    put(mini, "days/day01/figure.svg", "<svg/>\n")
    swap(mini, "days/day02/run.py", "path.write_text(", "1 / 0 + path.write_text(")
    tally = replay.Tally()
    replay.replay(mini, None, 2, tally)
    assert "days/day01/figure.svg: is not what result.json draws; run `python -m days record 1`" \
        in tally.faults
    assert any("figure.svg: cannot be drawn from result.json: ZeroDivisionError" in fault
               for fault in tally.faults)


def test_figures_are_alike_up_to_the_last_digits():
    svg = '<svg><g id="p1"><path d="M 1.500000 -2e-3"/></g><text x="1">0.31 nats</text></svg>'
    made_by = "<!-- Matplotlib v3.{} -->"
    assert figures.alike(svg, svg.replace("1.500000", "1.500001").replace("p1", "p2"))
    assert not figures.alike(svg, svg.replace("1.500000", "1.6"))
    assert not figures.alike(svg, svg.replace("0.31", "0.315"))
    assert not figures.alike(svg, svg.replace("nats", "bits"))
    assert not figures.alike(svg, "<svg/>")
    old, new = made_by.format(9) + svg, made_by.format(10) + svg.replace("<g", "<g x='0'")
    assert figures.alike(old, new) and not figures.alike(old, new.replace("0.31", "0.32"))


# --- tags

def test_tags_are_the_same_each_time_and_in_each_clone(mini, tmp_path):
    made = tags.build(mini)
    assert list(made) == ["day01", "day02"]
    assert tags.build(mini) == made
    git(tmp_path, "clone", "-q", str(mini), "other")
    git(tmp_path / "other", "tag", "-d", "day01", "day02")
    assert tags.build(tmp_path / "other") == made


def test_a_tag_has_its_day_and_nothing_later(mini):
    tags.build(mini)
    first = git(mini, "ls-tree", "-r", "--name-only", "day01").split()
    assert "llm/functions/first.py" in first and "README.md" in first
    assert not [path for path in first if "second" in path or "day02" in path]
    added = git(mini, "diff", "--name-status", "day01", "day02").splitlines()
    assert len(added) == 9 and all(line.startswith("A\t") for line in added)
    log = git(mini, "log", "--format=%s", "day02").splitlines()
    assert log == ["Day 02: Vectors by hand", "Day 01: What is a language model?"]


def test_tags_leave_work_tree_and_index_alone(mini, capsys):
    put(mini, "llm/functions/first.py", "changed, not committed")
    put(mini, "new.txt", "staged")
    git(mini, "add", "new.txt")
    index, head = (mini / ".git/index").read_bytes(), git(mini, "rev-parse", "HEAD")
    tags.build(mini)
    assert "uncommitted changes are left alone" in capsys.readouterr().err
    assert (mini / ".git/index").read_bytes() == index
    assert git(mini, "rev-parse", "HEAD") == head
    assert (mini / "llm/functions/first.py").read_text() == "changed, not committed"
    assert "changed" not in git(mini, "show", "day01:llm/functions/first.py")


def test_an_early_checkout_is_sound_by_itself(mini):
    swap(mini, "days/day01/README.md", "![one", "Then <!--=day(2)-->?<!--/-->.\n\n![one")
    write.write(mini, [1])
    assert "[Day 02](../day02/README.md)" in (mini / "days/day01/README.md").read_text()
    git(mini, "commit", "-qam", "a link")
    tags.build(mini)
    git(mini, "checkout", "-q", "day01")
    assert tags.day_of_checkout(mini) == 1
    assert not (mini / "llm/functions/second.py").exists()
    assert static.faults(mini) == []


def test_tags_are_refused_where_later_days_are_missing(mini):
    made = tags.build(mini)
    git(mini, "checkout", "-q", "day01")
    with pytest.raises(UsageError, match="the tree as of day 01.*go back first"):
        tags.build(mini)
    put(mini, "mine.txt", "x")
    git(mini, "add", ".")
    git(mini, "commit", "-qm", "Day 02: my own")
    with pytest.raises(UsageError, match="the tree as of day 01"):
        tags.build(mini)
    assert tags.present_tags(mini) == list(made)


def test_tags_tell_gits_own_words(mini, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(UsageError, match="dubious ownership.*safe.directory"):
        tags.build(mini)


def test_an_exported_git_dir_is_no_other_repository(mini, original, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(original / ".git"))
    put(mini, "experiments/new.py", '"""Day 02 · New."""\n')
    assert "experiments/new.py" in ownership.files(mini)
    tags.build(mini)
    monkeypatch.delenv("GIT_DIR")
    assert git(mini, "tag").split() == ["day01", "day02"] and not git(original, "tag")


def test_tags_that_are_not_ours_are_not_moved(mini):
    git(mini, "tag", "day02")
    before = git(mini, "rev-parse", "day02")
    with pytest.raises(UsageError, match="day02 was not made by this command"):
        tags.build(mini)
    assert git(mini, "tag").split() == ["day02"] and git(mini, "rev-parse", "day02") == before


def test_tags_outside_a_clone_are_refused(mini, monkeypatch, capsys):
    shutil.rmtree(mini / ".git")
    monkeypatch.setattr(cli, "ROOT", mini)
    assert cli.main(["tags"]) == 2
    said = capsys.readouterr().err
    assert "not a git clone" in said and len(said.strip().splitlines()) == 1


def test_tags_need_owners(mini):
    put(mini, "llm/functions/lost.py", '"""Lost."""\n')
    git(mini, "add", ".")
    git(mini, "commit", "-qm", "lost")
    with pytest.raises(UsageError, match="lost.py: has no owner"):
        tags.build(mini)


# --- practice, drill, check

TRICKY = '''"""Day 09 · Tricky."""

SIZE = 3  # stays


def plain(x, *, y: int = 2) -> int:
    """Doc stays."""
    # why
    z = x + y

    def inner():
        return z
    return inner()


# this comment stays
class Thing:
    """A thing."""

    size: int = SIZE

    @property
    def area(self):
        return (self.size
                * self.size)  # gone

    def told(self):
        """Only told."""


def one_line(x): return "é", x
'''

BLANKED = '''"""Day 09 · Tricky."""

SIZE = 3  # stays


def plain(x, *, y: int = 2) -> int:
    """Doc stays."""
    # why
    raise NotImplementedError


# this comment stays
class Thing:
    """A thing."""

    size: int = SIZE

    @property
    def area(self):
        raise NotImplementedError

    def told(self):
        """Only told."""


def one_line(x): raise NotImplementedError
'''


def test_practice_takes_the_bodies_and_keeps_the_rest():
    assert practice.blank(TRICKY) == BLANKED


def test_practice_resumes_and_never_overwrites(mini, capsys):
    assert practice.practice(mini, 2) == 0
    copy = mini / ".course/practice02"
    mine = copy / "llm/functions/second.py"
    assert "raise NotImplementedError" in mine.read_text()
    assert "raise NotImplementedError" not in (copy / "llm/functions/first.py").read_text()
    assert practice.practice(mini, 2) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "0 of 1 tests pass. Next: test_of_three",
        "  to write: llm/functions/second.py line 8, quadruple",
        "  all of it: cd .course/practice02 && python -m pytest -x tests/test_day02.py"]
    swap(copy, "llm/functions/second.py", "raise NotImplementedError", "return 5 * x")
    assert practice.practice(mini, 2) == 1
    assert "\n  assert 15 == 12\n" in capsys.readouterr().out
    swap(copy, "llm/functions/second.py", "return 5 * x", "return 4 * x")
    assert practice.practice(mini, 2) == 0
    assert "return 4 * x" in mine.read_text()
    assert progress.read(mini)["02"] == {"practice": True}
    assert practice.practice(mini, 2, new=True) == 0
    assert "return 4 * x" not in mine.read_text()


def test_practice_says_which_error_a_test_wants(mini, capsys):
    swap(mini, "tests/test_day02.py", "def test_of_three():", "import pytest\n\n\n"
         "def test_of_text():\n    with pytest.raises(ValueError, match='no number'):\n"
         "        quadruple('3')\n\n\ndef test_of_three():")
    practice.practice(mini, 2)
    for body, said in [("", "to write: llm/functions/second.py line 8, quadruple"),
                       ("raise ValueError('three')", "Expected regex: 'no number'"),
                       ("return (", "second.py\", line 8")]:
        if body:
            code = (mini / ".course/practice02/llm/functions/second.py").read_text()
            put(mini, ".course/practice02/llm/functions/second.py",
                code[:code.index("    raise")] + f"    raise_ = 0; {body}\n")
        capsys.readouterr()
        assert practice.practice(mini, 2) == 1
        out = capsys.readouterr().out
        assert said in out
        wants = "the test wants ValueError, its message matching 'no number'"
        assert (wants in out) == (body != "return (")


def test_practice_has_nothing_of_a_later_day(mini):
    practice.practice(mini, 1)
    assert not (mini / ".course/practice01/llm/functions/second.py").exists()
    assert not list((mini / ".course").glob("*.part"))


def test_drills_come_in_another_order_than_in_the_note(mini):
    assert {drill.next_one(mini, 2, 3) for _ in range(60)} == {1, 2, 3}
    progress.record_drill(mini, 2, 3)
    assert {drill.next_one(mini, 2, 3) for _ in range(60)} == {1, 2}
    progress.record_drill(mini, 2, 1)
    progress.record_drill(mini, 2, 2)
    assert {drill.next_one(mini, 2, 3) for _ in range(60)} == {1, 2, 3}


def test_drill_plants_grades_and_goes_on(mini, capsys):
    assert drill.drill(mini, 2, 1) == 0
    assert "too large by one" in capsys.readouterr().out
    copy = mini / ".course/drill02"
    assert "double(double(x)) + 1" in (copy / "llm/functions/second.py").read_text()
    assert drill.drill(mini, 2) == 1
    assert "Not fixed yet" in capsys.readouterr().out
    with pytest.raises(UsageError, match="drill 1 of day 02 is under way"):
        drill.drill(mini, 2, 2)
    assert drill.drill(mini, 2, show=True) == 0
    assert "one more" in capsys.readouterr().out
    swap(copy, "llm/functions/second.py", ")) + 1", "")
    assert drill.drill(mini, 2) == 1
    assert 'second.py", line 8' in capsys.readouterr().out     # where Python cannot even read it
    swap(copy, "llm/functions/second.py", "(double(x", "(double(x))")
    assert drill.drill(mini, 2) == 0
    assert "Next: python -m days drill 2" in capsys.readouterr().out
    assert progress.read(mini)["02"]["drills"] == [1]
    assert drill.drill(mini, 2) == 0
    assert "too small by one" in capsys.readouterr().out
    swap(copy, "llm/functions/second.py", ")) - 1", "))")
    assert drill.drill(mini, 2) == 0
    assert "that was the last one" in capsys.readouterr().out


@pytest.mark.parametrize("body, status, line", [
    ("raise NotImplementedError", 1, "not yet started half"),
    ("return x / 2", 0, "pass half"),
    ("return x", 1, "fails half: half of 4 is 2"),
    ("return x.half", 1, "fails half: AttributeError in line 6 of day01.py"),
])
def test_check_grades_the_exercises(mini, capsys, body, status, line):
    swap(mini, "days/day01/exercises.py", "raise NotImplementedError", body)
    assert check.check(mini, 1) == status
    assert line in " ".join(capsys.readouterr().out.split())
    assert ("01" in progress.read(mini)) == (status == 0)
    assert check.check(mini, 1, solution=True) == 0


def test_a_python_without_the_packages_is_told_how_to_get_them():
    done = subprocess.run([sys.executable, "-S", "-m", "days"], cwd=course.ROOT, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "lacks numpy, numba, matplotlib, rich: run `make test` once, then" in done.stderr


def test_answers_are_kept_where_no_checkout_goes(mini, capsys):
    assert check.check(mini, 1) == 1
    mine = mini / ".course/answers/day01.py"
    assert "made .course/answers/day01.py from days/day01/exercises.py" in capsys.readouterr().err
    asked = (mini / "days/day01/exercises.py").read_text()
    swap(mini, ".course/answers/day01.py", "raise NotImplementedError", "return x / 2")
    assert check.check(mini, 1) == 0 and "grading .course/answers" in capsys.readouterr().err
    assert (mini / "days/day01/exercises.py").read_text() == asked
    mine.write_text(mine.read_text().replace("assert", "pass; assert False and"))
    swap(mini, ".course/answers/day01.py", "return x / 2", "return x")
    assert check.check(mini, 1) == 1                  # the questions are the course's own
    mine.write_text("def half(x:")
    with pytest.raises(UsageError, match="day01.py line 1: SyntaxError"):
        check.check(mini, 1)


@pytest.mark.parametrize("text", ["", "[1", "[]", "{}", '{"mistake": "1"}', '{"mistake": 9}',
                                  '{"mistake": true}', "[" * 100_000])
def test_a_damaged_drill_is_told_and_can_be_started_over(mini, text):
    drill.drill(mini, 2)
    put(mini, ".course/drill02.json", text)
    with pytest.raises(UsageError, match="is damaged; start over with: .* drill 2 --new"):
        drill.drill(mini, 2)
    assert drill.drill(mini, 2, new=True) == 0


def test_a_copy_that_is_not_finished_leaves_the_old_one(mini):
    def stop(folder):
        raise KeyError("stopped")

    scratch.create(mini, "practice01", 1, lambda folder: put(folder, "mark.txt", "old"))
    with pytest.raises(KeyError):
        scratch.create(mini, "practice01", 1, stop)
    assert (mini / ".course/practice01/mark.txt").read_text() == "old"
    assert [path.name for path in (mini / ".course").iterdir()] == ["practice01"]

    def meanwhile(folder):
        put(folder, "mark.txt", "outer")
        scratch.create(mini, "practice01", 1, lambda inner: put(inner, "mark.txt", "inner"))

    scratch.create(mini, "practice01", 1, meanwhile)        # another command, at the same time
    assert (mini / ".course/practice01/mark.txt").read_text() == "outer"
    assert [path.name for path in (mini / ".course").iterdir()] == ["practice01"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_a_folder_that_python_cannot_import_from_is_told(mini, monkeypatch, capsys):
    odd = mini.rename(mini.with_name("a:course"))
    monkeypatch.setattr(cli, "ROOT", odd)
    assert cli.main(["test", "1"]) == 2
    said = capsys.readouterr().err
    assert "a ':' in the name of a folder" in said and len(said.strip().splitlines()) == 1


def test_exit_in_an_exercise_is_a_failure(mini, capsys):
    swap(mini, "days/day01/exercises.py", "raise NotImplementedError", "exit(0)")
    assert check.check(mini, 1) == 1
    assert "fails half: SystemExit in line" in " ".join(capsys.readouterr().out.split())
    put(mini, "days/day01/exercises.py", "import sys\nsys.exit(0)\n")
    with pytest.raises(UsageError, match="exercises.py: SystemExit: 0"):
        check.check(mini, 1)


# --- record: runs, and the prose beside their numbers

def numbered(mini):
    """A note with numbers in a paragraph, an item and a row."""
    swap(mini, "days/day02/README.md", "It is <!--=value:.1f-->6.0<!--/-->.\n",
         "First a word. Twice <!--=value / 2:.1f-->?<!--/--> is <!--=value:.1f-->?<!--/--> of\n"
         "<!--=seed-->?<!--/--> seeds, e.g. here. And then no more.\n\n"
         "- An item, <!--=value > 5-->?<!--/-->.\n- <!--=value < 7-->?<!--/--> stays.\n\n"
         "| <!--=value * 10:.0f-->?<!--/--> | row |\n| :-- | :-- |\n")
    assert write.write(mini, [2]) == 0


def test_record_keeps_the_run_and_shows_each_sentence_whose_number_moved(mini, capsys):
    numbered(mini)
    put(mini, "days/day02/result.json", '{"value": 4.0, "seed": 0, "fast": false}')
    assert write.write(mini, [2]) == 0
    assert record.record(mini, [1, 2]) == 0
    said = capsys.readouterr().out
    lines = [line.partition(": ")[2] for line in said.splitlines() if line.startswith("  line")]
    assert lines == ["Twice [2.0 → 3.0] is [4.0 → 6.0] of 0 seeds, e.g. here.",
                     "- An item, [False → True].", "| [40 → 60] | row |"]
    assert "days/day02/README.md: rows of the table that changed: 1" in said
    note_lines = (mini / "days/day02/README.md").read_text().splitlines()
    for line in said.splitlines():
        if line.startswith("  line"):
            number, _, sentence = line.removeprefix("  line ").partition(": ")
            assert sentence.split()[0] in note_lines[int(number) - 1]
    result = json.loads((mini / "days/day02/result.json").read_text())
    assert result["value"] == 6.0 and result["fast"] is False and result["run_seconds"] >= 0
    assert "6.0" in (mini / "days/day02/figure.svg").read_text()
    assert static.faults(mini) == []
    assert record.record(mini, [2]) == 0
    assert "no number in the prose moved" in capsys.readouterr().out


LONG = """def measure(fast, seed, full=False):
    from llm.functions.second import quadruple
    return Result(quadruple(1.5) + 100 * full)
"""


def test_record_tells_that_the_machine_is_busy(mini, monkeypatch, capsys):
    monkeypatch.setattr(record, "record_one", lambda *arguments: 0)
    monkeypatch.setattr(record.os, "cpu_count", lambda: 2)
    for load, told in ((2.0, False), (2.5, True)):
        monkeypatch.setattr(record.os, "getloadavg", lambda load=load: (load, 9, 9), raising=False)
        assert record.record(mini, [1]) == 0
        assert ("busy (load 2.5)" in capsys.readouterr().err) == told


def test_record_full_writes_full_json_which_markers_can_read(mini, capfd):
    swap(mini, "days/day02/run.py", """def measure(fast, seed):
    from llm.functions.second import quadruple
    return Result(quadruple(1.5))
""", LONG)
    before = (mini / "days/day02/result.json").read_bytes()
    with pytest.raises(UsageError, match="day 01 has no long run"):
        record.record(mini, [1], full=True)
    assert record.record(mini, [2], full=True) == 0
    full = json.loads((mini / "days/day02/full.json").read_text())
    assert full["value"] == 106.0 and full["full"] is True and full["fast"] is False
    assert (mini / "days/day02/full.svg").exists()
    assert (mini / "days/day02/result.json").read_bytes() == before
    swap(mini, "days/day02/README.md", "It is ",
         "Long: <!--=full.json: value:.0f-->?<!--/-->; it is ")
    assert write.write(mini, [2]) == 0
    assert "-->106<!--" in (mini / "days/day02/README.md").read_text()
    assert static.faults(mini) == []
    done = scratch.python(mini, "days/day02/run.py", "--fast", "--full", cwd=mini)
    assert done.returncode == 2 and "exclude each other" in done.stderr
    assert "--full" in scratch.python(mini, "days/day02/run.py", "--help", cwd=mini).stdout
    assert "--full" not in scratch.python(mini, "days/day01/run.py", "--help", cwd=mini).stdout


def test_a_run_that_fails_leaves_the_recorded_files(mini, capfd):
    before = {p: p.read_bytes() for p in (mini / "days").rglob("day0*/*") if p.is_file()}
    swap(mini, "days/day01/run.py", "def draw(result, path):", "def draw(result, path):\n    1 / 0")
    before[mini / "days/day01/run.py"] = (mini / "days/day01/run.py").read_bytes()
    assert record.record(mini, [1, 2]) == 1
    assert "nothing is changed" in capfd.readouterr().err
    assert before == {p: p.read_bytes() for p in before}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of process groups")
def test_ctrl_c_leaves_the_recorded_files(mini):
    """Even where the run itself ends well and writes what it has, as day 35 does."""
    swap(mini, "days/day01/run.py", "    from llm.functions.first import double\n", """\
    from llm.functions.first import double
    try:
        print("started", flush=True)
        import time
        time.sleep(60)
    except KeyboardInterrupt:
        pass
""")
    before = (mini / "days/day01/result.json").read_bytes()
    child = subprocess.Popen([sys.executable, "-m", "days", "record", "1"], cwd=mini, text=True,
                             stdout=subprocess.PIPE, start_new_session=True)
    with child:
        assert child.stdout.readline() == "started\n"
        os.killpg(child.pid, signal.SIGINT)
        child.stdout.read()
    assert child.returncode == 130
    assert (mini / "days/day01/result.json").read_bytes() == before


def test_a_note_that_cannot_be_written_does_not_lose_the_run(mini, capfd):
    swap(mini, "days/day02/README.md", "<!--=value:.1f-->", "<!--=valve:.1f-->")
    assert record.record(mini, [2]) == 1
    assert "run_seconds" in json.loads((mini / "days/day02/result.json").read_text())
    assert "cannot be written" in capfd.readouterr().err


def test_markers_read_an_experiment_of_the_same_or_an_earlier_day(mini):
    put(mini, "experiments/__init__.py", '"""Questions."""\n')
    put(mini, "experiments/many.py", '"""Day 02 · Many."""\n')
    put(mini, "experiments/many.json", '[{"n": 7}, {"n": 9}]')
    marker = "<!--=experiments/many.json: sum(r['n'] for r in rows if r['n'] > 7)-->"
    swap(mini, "days/day02/README.md", "It is ", f"Nine is {marker}?<!--/-->; it is ")
    assert write.write(mini, [2]) == 0
    assert f"{marker}9<!--/-->" in (mini / "days/day02/README.md").read_text()
    assert static.faults(mini) == []
    put(mini, "experiments/many.json", '[{"n": 7}, {"n": 10}]')
    assert any("is stale at 'Nine is" in fault for fault in static.faults(mini))
    swap(mini, "days/day01/README.md", "It is ", f"Nine is {marker}?<!--/-->; it is ")
    swap(mini, "days/day02/README.md", "many.json", "few.json")
    found = "\n".join(static.faults(mini))
    assert "day01/README.md: cannot be written" in found
    assert "experiments/many.json is not a file of this day or an earlier one" in found
    assert "there is no experiments/few.json" in found


# --- the command line

@pytest.mark.parametrize("arguments", [
    ["run", "99"], ["run", "0"], ["run", "x"], ["run", "²"], ["run", "40"], ["test", "40"],
    ["check", "40"], ["drill", "40"], ["drill", "1", "9"], ["drill", "1", "--show"],
    ["drill", "1", "x"], ["practice", "40"], ["write", "40"], ["sing"], ["run"],
    ["verify", "--days", "x"], ["verify", "--days", "7-x"], ["verify", "--days", "5-3"],
    ["verify", "--jobs", "0"], ["record"], ["record", "40"], ["record", "1", "--full"],
    ["map", "--loud"], ["mutants"], ["mutants", "1", "--fixed"]])
def test_bad_arguments_are_one_line_and_status_2(mini, monkeypatch, capsys, arguments):
    monkeypatch.setattr(cli, "ROOT", mini)
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    shown = capsys.readouterr()
    assert status == 2 and not shown.out
    assert len(shown.err.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["[1, 2", '{"01": 5}', '{"01": {"drills": 5}}', "[]",
                                  '{"01": {"drills": ["x"]}}'])
def test_damaged_progress_is_told(mini, monkeypatch, capsys, text):
    put(mini, ".course/progress.json", text)
    monkeypatch.setattr(cli, "ROOT", mini)
    assert cli.main([]) == 2
    assert "progress.json is damaged; delete it" in capsys.readouterr().err


@pytest.mark.parametrize("text, days", [
    ("7", {7}), ("1-3", {1, 2, 3}), ("1,4,9-11", {1, 4, 9, 10, 11}), ("62-", {62, 63, 64}),
    ("-2", {1, 2}), (None, None)])
def test_spans_of_days(text, days):
    assert cli.span(text) == days


def test_the_map_fits_80_columns_and_shows_progress(mini, monkeypatch, capsys):
    for step in ("run", "test", "check"):
        progress.record(mini, 1, step)
    monkeypatch.setattr(cli, "ROOT", mini)
    assert not cli.main([])
    shown = capsys.readouterr().out
    assert "✓ 01 ▲ What is a language model?" in shown and "1 of 2 days passed" in shown
    assert "read days/day02/README.md" in shown
    assert len([line for line in shown.splitlines() if line.startswith("Phase")]) == 12
    assert max(map(len, shown.splitlines())) <= 80


def test_run_and_test_pass_flags_and_status_on(mini, capfd):
    def days(*arguments):
        return subprocess.run([sys.executable, "-m", "days", *arguments], cwd=mini).returncode

    assert days("run", "1", "--fast", "--json") == 0
    assert json.loads(capfd.readouterr().out)["fast"] is True
    assert days("run", "1", "--loud") == 2
    assert days("test", "1") == 0
    swap(mini, "tests/test_day02.py", "== 12", "== 13")
    assert days("test", "2") == 1
    assert progress.read(mini) == {"01": {"run": True, "test": True}}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of process groups")
def test_ctrl_c_lets_a_run_finish_what_it_keeps(mini):
    put(mini, "days/day01/run.py", """import signal, time
try:
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # without a terminal it is passed on, too
    time.sleep(.5)      # longer than subprocess.run would wait
    print("kept")
    raise SystemExit(130)
""")
    child = subprocess.Popen([sys.executable, "-m", "days", "run", "1"], cwd=mini, text=True,
                             stdout=subprocess.PIPE, start_new_session=True)
    with child:
        assert child.stdout.readline() == "started\n"
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout.read() == "kept\n"
    assert child.returncode == 130 and progress.read(mini) == {}


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_tells_when_python_is_too_old(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(course.ROOT / name, tmp_path)
    done = subprocess.run(["make", "run", "PYTHON=false"], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 2 and "needs Python 3.11 or newer" in done.stdout
    assert not (tmp_path / ".venv").exists()


# --- the real tree

def test_the_outline_has_64_days_in_12_phases():
    assert list(course.DAYS) == list(range(1, 65)) and len(course.PHASES) == 12


def test_the_course_has_no_static_faults():
    found = static.faults(course.ROOT)
    assert not found, "\n".join(found)


IMPORT_ALL = r"""
import importlib, pathlib, sys, threading
import numba
from numba.core.dispatcher import Dispatcher
from numba.np.ufunc import parallel

def by_the_course():                # Numba's cache tries, by itself, whether it could write
    frame, files = sys._getframe(2), []
    while frame:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return not any("numba" in pathlib.Path(name).parts for name in files)

written = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        if by_the_course():
            written.append(arguments[0])
sys.addaudithook(audit)
root = pathlib.Path(sys.argv[1])
names = [".".join(p.relative_to(root).with_suffix("").parts)
         for p in sorted((root / "llm").rglob("*.py")) if p.name != "__init__.py"]
modules = [importlib.import_module(name) for name in names]
compiled = [f"{m.__name__}.{name}" for m in modules for name, f in vars(m).items()
            if isinstance(f, Dispatcher) and f.signatures]
assert threading.active_count() == 1, threading.enumerate()
assert not parallel._is_initialized, "Numba's threads were started"
assert not written, written
assert not compiled, compiled
foreign = {"torch", "rich", "matplotlib", "transformers"} & set(sys.modules)
assert not foreign, foreign
"""


def test_importing_llm_starts_no_thread_writes_no_file_and_compiles_nothing():
    done = scratch.python(course.ROOT, "-B", "-c", IMPORT_ALL, str(course.ROOT))
    assert done.returncode == 0, done.stderr


def test_mutants_change_what_computes_and_nothing_else():
    text = ('"""Doc 1."""\n\n\ndef f(x, n: int = 2):\n    """Doc: 3 + 4."""\n'
            '    if n < 0:\n        raise ValueError(f"n is {n - 1}")\n'
            '    return g(x, n) + -(x * (n + 1))\n')
    found = mutants.mutants_of("f.py", text)
    lines = {m.apply(text).splitlines()[m.line - 1].strip() for m in found}
    assert lines == {
        "def f(x, n: int = 3):", "if False:", "if (n) <= (0):", "if n < 1:", "return None",
        "return (g(x, n)) - (-(x * (n + 1)))", "return (g(x, n))",
        "return g(n, x) + -(x * (n + 1))", "return g(x, n) + x * (n + 1)",
        "return g(x, n) + -((x) / (n + 1))", "return g(x, n) + -(x * ((n) - (1)))",
        "return g(x, n) + -(x * ((n)))", "return g(x, n) + -(x * (n + 2))"}
    assert all(m.line in (4, 6, 8) for m in found)
    for m in found:
        compile(m.apply(text), "f.py", "exec")


def test_mutants_lists_the_survivor_of_a_weak_test(mini, capsys):
    assert mutants.check(mini, 1, 40) == 0          # its test holds both operand and operator
    put(mini, "tests/test_day01.py", "from llm.functions.first import double\n\n\n"
        "def test_it_answers():\n    assert double(2.0) is not None\n")
    assert mutants.check(mini, 1, 40) == 1
    assert "llm/functions/first.py:" in capsys.readouterr().out


def test_fixed_faults_must_be_noticed_by_the_test_named_with_them(mini, capsys):
    one = faults.Fault(1, "llm/functions/first.py", "2 * x", "3 * x", "test_of_three")
    assert faults.check(mini, 2, [one]) == 0
    assert "1 faults planted, 0 missed" in capsys.readouterr().err
    unseen = faults.Fault(1, "llm/functions/first.py", "2 * x", "x * 2", "test_of_three")
    gone = faults.Fault(2, "llm/functions/second.py", "2 * y", "y", "test_of_three")
    nobody = faults.Fault(2, "llm/functions/second.py", "double(double(x))", "x", "test_nothing")
    later = faults.Fault(3, "llm/functions/third.py", "x", "y", "test_of_three")    # not here
    assert faults.check(mini, 1, [one, unseen, gone, nobody, later]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "day 01, llm/functions/first.py: x * 2", "  test_of_three passes",
        "day 02, llm/functions/second.py: y",
        "  its right line no longer stands there once: write the fault anew",
        "day 02, llm/functions/second.py: x", "  there is no test_nothing"]
    assert "4 faults planted, 3 missed" in said.err
    assert (mini / "llm/functions/first.py").read_text().count("2 * x") == 1
    swap(mini, "llm/functions/first.py", "2 * x", "5 * x")
    with pytest.raises(UsageError, match="a test fails by itself: FAILED tests/test_day01.py"):
        faults.check(mini, 1, [one])


def test_each_fixed_fault_has_its_line_and_its_test():
    assert 30 <= len(faults.FAULTS) <= 60
    for fault in faults.FAULTS:
        text = (course.ROOT / fault.file).read_text(encoding="utf-8")
        test = (course.ROOT / course.test_file(fault.day)).read_text(encoding="utf-8")
        assert text.count(fault.right) == 1 and fault.wrong != fault.right, fault
        assert f"def {fault.test}(" in test, fault


def test_a_mutant_that_is_declared_equivalent_is_not_tried(mini):
    put(mini, "tests/test_day01.py", "from llm.functions.first import double\n\n\n"
        "def test_it_answers():\n    assert double(2.0) is not None\n")
    line = (mini / "llm/functions/first.py").read_text().splitlines()[-1].strip()
    path = mini / "days/day01/mistakes.py"
    listed = [("llm/functions/first.py", line, "a reason")]
    before = path.read_text()
    path.write_text(before + f"EQUIVALENT = {listed!r}\n")
    assert mutants.check(mini, 1, 40) == 0
    text = (mini / "llm/functions/first.py").read_text()
    found = mutants.mutants_of("llm/functions/first.py", text)
    one = next(m for m in found if m.kind == "operator")
    listed = [("llm/functions/first.py", one.apply(text).splitlines()[one.line - 1].strip(), "one")]
    path.write_text(before + f"EQUIVALENT = {listed!r}\n")
    chosen = mutants.lines_of(mini, one)
    assert chosen == [line, listed[0][1]] and mutants.check(mini, 1, 40) == 1     # others survive


def test_the_examples_of_the_mathematics_page_are_what_python_answers():
    text = (course.ROOT / "notes" / "mathematics.md").read_text(encoding="utf-8")
    page = doctest.DocTestParser().get_doctest(text.replace("```", ""), {}, "page", None, 0)
    tried = doctest.DocTestRunner().run(page)
    assert tried.attempted > 20 and tried.failed == 0


STARTED = '''
import os
import queue
from dataclasses import dataclass
from days.harness import main


@dataclass(frozen=True)
class Result:
    sleeps: str


def measure(fast, seed):
    return Result(os.environ.get("OPENBLAS_THREAD_TIMEOUT", "no"))


if __name__ == "__main__":
    main(__file__, measure, print, lambda result, path: path.write_text("<svg/>"))
'''


@pytest.mark.skipif(os.name == "nt", reason="a process there cannot become another")
@pytest.mark.parametrize("day, own, expected", [
    (34, {}, "no"), (35, {}, "10"), (38, {}, "10"), (38, {"OPENBLAS_THREAD_TIMEOUT": "7"}, "7"),
    (61, {"PMIX_RANK": "0"}, "no")])                # mpirun waits for the process that it knows
def test_days_with_kernels_start_with_blas_threads_that_sleep(day, own, expected, tmp_path):
    script = tmp_path / f"day{day}" / "run.py"
    script.parent.mkdir()
    script.write_text(STARTED)
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {"PYTHONPATH": str(course.ROOT), **own}
    done = subprocess.run([sys.executable, str(script), "--fast", "--json", "--out", str(tmp_path)],
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sleeps"] == expected
