"""Day 64 · Notebooks of the days: whole, well formed, and five of them run from top to bottom."""

import json
import re

import pytest

from days.harness import UsageError
from days.tools.data import course
from days.tools.learner import notebook

ROOT = course.ROOT
QUICK = [7, 10, 12, 14, 28]       # days whose `measure(fast=True)` takes about a second
WRITTEN = [n for n in course.DAYS if course.written(ROOT, n)]


def cells(day, folder=ROOT / ".course" / "notebooks"):
    return notebook.notebook(ROOT, day, folder)["cells"]


def text(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("day", WRITTEN)
def test_each_day_has_its_note_its_run_and_a_grader_for_each_exercise(day):
    made = cells(day)
    words = "\n".join(text(cell) for cell in made if cell["cell_type"] == "markdown")
    assert f"# Day {day:02d} · " in words and "## Tomorrow" in words
    code = [text(cell) for cell in made if cell["cell_type"] == "code"]
    for cell in code:
        compile(cell, f"day{day:02d}", "exec")
    source = (ROOT / f"days/day{day:02d}/exercises.py").read_text(encoding="utf-8")
    asked = re.findall(r"^def check_(\w+)", source, re.M)
    assert [f"grade({name})" for name in sorted(asked)] == sorted(
        cell for cell in code if cell.startswith("grade("))
    assert any("run.measure(fast=FAST, seed=0)" in cell for cell in code)


def test_a_section_loses_its_markers_and_its_links_lead_home():
    said = notebook.words("<!-- given: 3 -->On <!--=a-->2<!--/--> see [b](run.py#x), $[c](d)$, "
                          "![e](figure.svg)", ROOT, 6, ROOT / ".course" / "notebooks")
    assert said == ("On 2 see [b](../../days/day06/run.py#x), $[c](d)$, "
                    "*Figure: e. It is drawn below.*")


def test_a_notebook_is_well_formed(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="needs requirements-dev.txt")
    notebook.write(ROOT, 7, tmp_path)
    nbformat.validate(nbformat.read(tmp_path / "day07.ipynb", as_version=4))


def test_a_notebook_with_the_readers_work_is_not_written_over(tmp_path):
    (tmp_path / "day07.ipynb").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="--new"):
        notebook.write(ROOT, 7, tmp_path)
    assert (tmp_path / "day07.ipynb").read_text(encoding="utf-8") == "mine"
    notebook.write(ROOT, 7, tmp_path, new=True)
    assert json.loads((tmp_path / "day07.ipynb").read_text(encoding="utf-8"))["nbformat"] == 4


@pytest.mark.filterwarnings("default")      # Jupyter's own warnings are not ours
@pytest.mark.parametrize("day", QUICK)
def test_it_runs_from_top_to_bottom_and_draws_its_figure(day, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs requirements-dev.txt")
    nbformat = pytest.importorskip("nbformat", reason="needs requirements-dev.txt")
    pytest.importorskip("ipykernel", reason="needs requirements-dev.txt")
    notebook.write(ROOT, day, tmp_path)
    made = nbformat.read(tmp_path / f"day{day:02d}.ipynb", as_version=4)
    nbclient.NotebookClient(made, timeout=600, kernel_name="python3", resources={
        "metadata": {"path": str(ROOT)}}).execute()     # an error in a cell ends it
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 1
    said = "".join(output.get("text", "") for output in outputs)
    source = (ROOT / f"days/day{day:02d}/exercises.py").read_text(encoding="utf-8")
    assert said.count(": not yet started\n") == len(re.findall(r"^def check_", source, re.M))
