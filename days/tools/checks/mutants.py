"""`python -m days mutants NN`: small faults in the day's own code; does the day's test notice each?

A mutant is one small change of the source: another operator, another sign or constant, a dropped
term, swapped arguments, a line left out. The day's test runs against each in a scratch copy. A
mutant that passes every test (a survivor) is a test that is missing, or a change that makes no
difference. The second kind is listed in the day's mistakes.py, with its reason:

    EQUIVALENT = [("llm/functions/dense.py", "the line, stripped", "why it is no fault")]

The line as a mutant makes it excuses that mutant; the line as it is excuses all of its mutants.

Source: R. A. DeMillo, R. J. Lipton, F. G. Sayward, Hints on Test Data Selection, Computer 11, 1978.
"""

import ast
import queue
import random
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from days.harness import UsageError, console, progress, say
from days.tools.data import course, ownership, scratch

SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Pow: "*",
         ast.Mod: "//", ast.MatMult: "*", ast.BitAnd: "|", ast.BitOr: "&",
         ast.LShift: ">>", ast.RShift: "<<"}
COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
            ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the characters start … end become `new`."""

    file: str
    line: int
    start: int
    end: int
    new: str
    kind: str

    def apply(self, text):
        return text[:self.start] + self.new + text[self.end:]


def mutants_of(file, text):
    """Every mutant of one source file, in order."""
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))

    def place(line, column):                  # ast counts columns in bytes of UTF-8
        row = text[starts[line - 1]:starts[line]]
        return starts[line - 1] + len(row.encode()[:column].decode())

    def span(node):
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def source(node):
        return text[slice(*span(node))]

    found = []
    for node in walk(ast.parse(text)):
        for kind, (start, end), new in changes(node, span, source):
            mutant = Mutant(file, node.lineno, start, end, new, kind)
            if new != text[start:end] and is_python(mutant.apply(text)):
                found.append(mutant)
    return found


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def walk(tree):
    """The nodes that compute: no docstrings, annotations, decorators, messages or f-strings."""
    if isinstance(tree, (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from walk(child)


def changes(node, span, source):
    """(kind, (start, end), replacement) of every mutation of this node alone."""
    if isinstance(node, ast.BinOp):
        left, right = source(node.left), source(node.right)
        if type(node.op) in SWAPS:
            yield "operator", span(node), f"({left}) {SWAPS[type(node.op)]} ({right})"
        if isinstance(node.op, (ast.Add, ast.Sub)):
            yield "dropped term", span(node), f"({left})"
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        swap = {"Add": "-", "Sub": "+", "Mult": "/"}[type(node.op).__name__]
        yield "operator", span(node), f"{source(node.target)} {swap}= {source(node.value)}"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        both = source(node.left), source(node.comparators[0])
        yield "comparison", span(node), f"({both[0]}) {COMPARED[type(node.ops[0])]} ({both[1]})"
    elif isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield "and/or", span(node), f"({word.join(f'({source(v)})' for v in node.values)})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield "sign" if isinstance(node.op, ast.USub) else "not", span(node), source(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", span(node), str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "constant", span(node), str(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield "constant", span(node), repr(node.value * 1.5 or 0.5)
    elif isinstance(node, ast.Call) and len(node.args) >= 2 and not any(
            isinstance(a, ast.Starred) for a in node.args[:2]):
        first, second = node.args[:2]
        swapped = f"{source(second)}, {source(first)}"
        yield "swapped arguments", (span(first)[0], span(second)[1]), swapped
    elif isinstance(node, (ast.Assign, ast.AugAssign)) or (
            isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)):
        yield "removed line", span(node), "pass"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "returns nothing", span(node), "return None"
    elif isinstance(node, ast.If):
        yield "condition", span(node.test), "False"


def check(root, day, sample, seed=0, jobs=2):
    """Try `sample` mutants of a day's files under llm/; list the survivors; status 1 if any."""
    owners = ownership.owners_of(root)
    files = [f for f, owner in owners.items() if owner == day and f.startswith("llm/")]
    found = [m for f in files for m in mutants_of(f, (root / f).read_text(encoding="utf-8"))]
    if not found:
        raise UsageError(f"day {day:02d} has no code under llm/ to change")
    chosen = random.Random(seed).sample(found, min(sample, len(found)))
    known = known_equivalents(root, day)
    chosen = [m for m in chosen if known.isdisjoint((m.file, line) for line in lines_of(root, m))]
    scratch.share_cores(jobs)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        copies = queue.SimpleQueue()
        for n in range(jobs):
            copy = Path(folder).resolve() / f"copy{n}"
            scratch.fill(root, owners, copy, lambda owner: owner <= day)
            copies.put(copy)
        limit = time_limit(copies, day)
        with progress(len(chosen), f"day {day:02d}") as tick, ThreadPoolExecutor(jobs) as pool:
            def one(mutant):
                survives = survived(root, copies, day, mutant, limit)
                tick()
                return survives
            survivors = [m for m, alive in zip(chosen, pool.map(one, chosen)) if alive]
    report(root, survivors, len(chosen), len(found))
    return 1 if survivors else 0


def known_equivalents(root, day):
    """{(file, line)} that the day's mistakes.py declares to be no fault."""
    path = course.part(root, day, "mistakes.py")
    listed = getattr(course.load(path), "EQUIVALENT", []) if path.is_file() else []
    return {(file, line) for file, line, _ in listed}


def line_of(root, mutant):
    return lines_of(root, mutant)[0]


def lines_of(root, mutant):
    """Its line as it is and as the mutant makes it."""
    text = (root / mutant.file).read_text(encoding="utf-8")
    return [t.splitlines()[mutant.line - 1].strip() for t in (text, mutant.apply(text))]


def time_limit(copies, day):
    """Seconds a mutant may take: four times the healthy test, which must pass, and 30 more."""
    copy = copies.get()
    began = time.perf_counter()
    done = scratch.pytest(copy, day, "-x")
    copies.put(copy)
    if done.returncode:
        raise UsageError(f"the test of day {day:02d} fails by itself: {scratch.last_words(done)}")
    return 4 * (time.perf_counter() - began) + 30


def survived(root, copies, day, mutant, limit):
    """Does every test of the day pass with this mutant in place?"""
    copy = copies.get()
    right = (root / mutant.file).read_text(encoding="utf-8")
    try:
        (copy / mutant.file).write_text(mutant.apply(right), encoding="utf-8", newline="")
        scratch.forget_compiled(copy, mutant.file)
        return scratch.pytest(copy, day, "-x", timeout=limit,
                              PYTHONDONTWRITEBYTECODE="1").returncode == 0
    except subprocess.TimeoutExpired:
        return False                                # it hangs: anybody notices that
    finally:
        scratch.restore_file(root, copy, mutant.file)
        copies.put(copy)


def report(root, survivors, tried, possible):
    """Each survivor with its line and what the line became."""
    screen = console()
    for m in sorted(survivors, key=lambda m: (m.file, m.line)):
        text = (root / m.file).read_text(encoding="utf-8")
        became = m.apply(text).splitlines()[m.line - 1].strip()
        screen.print(f"{m.file}:{m.line}  {m.kind}\n  - {line_of(root, m)}\n  + {became}",
                     markup=False, soft_wrap=True)
    say(f"{tried} of {possible} mutants tried, {len(survivors)} survive")
