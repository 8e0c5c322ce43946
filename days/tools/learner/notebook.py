"""A day as a Jupyter notebook: its note, its code to play with, its figure, its graded exercises.

    the note          as Markdown cells, section by section, with its formulas
    By hand           the day's first test follows, as code that can be changed
    Build             the day's modules are imported, with the examples of their docstrings
    Measure           runs the day's own measure (fast at first) and draws its figure
    Exercises         each stub in a cell, and its grader in the next

The file is nbformat 4.5, written with the standard library; Jupyter is needed only to open it.
"""

import ast
import builtins
import doctest
import json
import os
import re
import shlex

from days.harness import UsageError, console
from days.tools.data import course, generated, ownership

COMMENT = re.compile(r"<!--.*?-->", re.S)
LINK = re.compile(r"(`+[^`]*`+|\$[^$\n]+\$)|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CURE = "python -m pip install -r requirements-notebook.txt"

SETUP = '''\
import sys
from pathlib import Path

HERE = Path.cwd().resolve()
ROOT = next(p for p in [HERE, *HERE.parents] if (p / "days" / "harness.py").is_file())
sys.path.insert(0, str(ROOT))

from IPython.display import SVG, display

from days.tools.data import course


def grade(answer, asked=course.load(ROOT / "days/{name}/exercises.py")):
    """What the day's grader says to your function."""
    from types import SimpleNamespace

    from days.tools.learner.check import grade      # here: a day may have a `check` of its own
    name, checks = answer.__name__, f"check_{{answer.__name__}}"
    for name, verdict, why in grade(SimpleNamespace(**{{checks: getattr(asked, checks)}}),
                                    SimpleNamespace(**{{name: answer}})):
        print(f"{{name}}: {{verdict}}" + (f": {{why}}" if why else ""))
'''
MEASURE = '''\
from days.tools.data import course

FAST = True         # False measures what the note shows; that takes as long as it says above
run = course.load(ROOT / "days/{name}/run.py")
result = run.measure(fast=FAST, seed=0)
run.show(result)
'''
FIGURE = '''\
import tempfile
from pathlib import Path

import matplotlib
matplotlib.use("Agg")

with tempfile.TemporaryDirectory() as folder:
    drawn = Path(folder) / "figure.svg"
    run.draw(result, drawn)
    display(SVG(filename=str(drawn)))
'''


def write(root, day, out=None, new=False):
    """Write dayNN.ipynb; an existing one is only overwritten with `new`."""
    if not course.written(root, day):
        raise UsageError(f"day {day:02d} has no note in this tree yet, so no notebook")
    path = (out or root / ".course" / "notebooks") / f"day{day:02d}.ipynb"
    if path.exists() and not new:
        raise UsageError(f"{path} is there already, perhaps with work of yours; "
                         "--new writes it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(notebook(root, day, path.parent), indent=1, ensure_ascii=False)
                    + "\n", encoding="utf-8")
    part.replace(path)
    console().print(f"wrote {path}\nopen it: python -m jupyter lab {shlex.quote(str(path))}\n"
                    f"(no Jupyter yet? {CURE})", markup=False, soft_wrap=True)
    return 0


def notebook(root, day, folder):
    """The notebook of a day as a dict; links in it lead from `folder` to the course."""
    cells = [markdown(text) if kind == "markdown" else code(text)
             for kind, text in pieces(root, day, folder) if text.strip()]
    for index, cell in enumerate(cells):
        cell["id"] = f"day{day:02d}-{index:03d}"
    return {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}}


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text.strip().splitlines(True)}


def code(text):
    return {"cell_type": "code", "metadata": {}, "source": text.strip("\n").splitlines(True),
            "execution_count": None, "outputs": []}


def pieces(root, day, folder):
    """("markdown" or "code", text) one after the other."""
    text = course.part(root, day, "README.md").read_text(encoding="utf-8")
    name = f"day{day:02d}"
    for number, section in enumerate(re.split(r"^(?=## )", text, flags=re.M)):
        yield "markdown", words(section, root, day, folder)
        if number == 0:
            yield "code", SETUP.format(name=name)
        follow = AFTER.get(section.split("\n")[0])
        if follow:
            yield from (("code", cell) for cell in follow(root, day))
        if section.startswith("## Measure\n"):
            yield "code", MEASURE.format(name=name)
            yield "code", FIGURE


def words(section, root, day, folder):
    """A section of the note as a notebook shows it: no markers, and links that lead home."""
    def link(match):
        if match[1] is not None or re.match(r"[a-z]+:|#", match[4]):
            return match[0]
        if match[2]:
            return f"*Figure: {match[3]}. It is drawn below.*"
        target, hash_, anchor = match[4].partition("#")
        path = os.path.relpath(course.part(root, day, target), folder).replace(os.sep, "/")
        return f"[{match[3]}]({path}{hash_}{anchor})"

    parts, end = [], 0
    for fence in generated.FENCE.finditer(section):
        language, _, path = fence[2].strip().partition(" ")
        parts += [LINK.sub(link, COMMENT.sub("", section[end:fence.start()])),
                  f"*{path}*\n\n" if path else "", f"```{language}\n{fence[3]}```"]
        end = fence.end()
    return "".join(parts) + LINK.sub(link, COMMENT.sub("", section[end:]))


def by_hand(root, day):
    """The day's first test that needs nothing from pytest, as plain statements."""
    path = root / course.test_file(day)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
                and not node.args.args and not node.decorator_list):
            lines = [f"# {node.name.removeprefix('test_').replace('_', ' ')}",
                     *needed(tree, node), *(ast.unparse(line) for line in node.body)]
            yield "\n".join(lines)
            return


def needed(tree, node):
    """The imports, constants and helpers of a module that one of its functions uses, in order."""
    wanted, taken = names(node), []
    for other in reversed([n for n in tree.body if n is not node]):
        defined = definitions(other)
        if defined & wanted:
            taken.append(ast.unparse(other))
            wanted |= names(other)
    return reversed(taken)


def names(node):
    """The names that some code reads, those of Python itself left out."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - set(dir(builtins))


def definitions(node):
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {n.id for target in node.targets for n in ast.walk(target)
                if isinstance(n, ast.Name)}
    return set()


def playground(root, day):
    """The day's modules of llm/, what they offer, and the examples of their docstrings."""
    mine = [path for path, owner in sorted(ownership.owners_of(root).items())
            if owner == day and re.fullmatch(r"llm/.+(?<!__init__)\.py", path)]
    if not mine:
        return
    lines = ["# the code of the day, as it is in the files"]
    shown = []
    for path in mine:
        module = path[:-3].replace("/", ".")
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
                  and not node.name.startswith("_")]
        if not public:
            continue
        lines.append(f"from {module} import {', '.join(node.name for node in public)}")
        for node in public:
            examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
            if examples:
                shown.append("".join(example.source for example in examples))
    first = lines[1].rpartition(" ")[2] if len(lines) > 1 else ""
    yield "\n".join([*lines, "", f"help({first})"] if first else lines)
    yield from shown


def exercises(root, day):
    """Each stub in a cell of its own, with what it imports, and its grader."""
    tree = ast.parse(course.part(root, day, "exercises.py").read_text(encoding="utf-8"))
    text = course.part(root, day, "exercises.py").read_text(encoding="utf-8")
    asked = {n.name.removeprefix("check_") for n in tree.body
             if isinstance(n, ast.FunctionDef) and n.name.startswith("check_")}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in asked:
            uses = list(needed(tree, node)) + [ast.unparse(n) for n in tree.body if isinstance(
                n, ast.Import | ast.ImportFrom) and not definitions(n) & names(node)]
            yield "\n".join([*uses, "", "", ast.get_source_segment(text, node)])
            yield f"grade({node.name})"


AFTER = {"## By hand": by_hand, "## Build": playground, "## Exercises": exercises}
