"""The first failure in what pytest said: where it happened, in which function, and what was wanted.

Read from the output of `pytest --tb=short`, which has, for each failure, a title, the lines of the
stack as "file:line: in function", and what went wrong in lines that begin with "E".
"""

import ast
import re
from dataclasses import dataclass

TITLE = re.compile(r"^_{3,} (?:ERROR collecting |ERROR at \w+ of )?(.+?) _{3,}$", re.M)
PLACE = re.compile(r"^(\S.*?):(\d+): (?:in (.+))?", re.M)
SAID = re.compile(r"^E {1,7}(\S.*|\s+\S.*)$", re.M)


@dataclass(frozen=True)
class Failure:
    """One test that failed; `place` is where under llm/ it ended, if it came so far."""

    test: str             # its name, or the file where not even that could be loaded
    place: str            # "llm/models/markov.py line 12, fit", or ""
    said: list            # the lines of the error
    wanted: str           # 'ValueError with a message that matches "…"', or ""


def first(output, folder):
    """The first Failure that pytest tells of, or None. folder: the root of the copy it ran in."""
    title = TITLE.search(output)
    if not title:
        return None
    following = TITLE.search(output, title.end())
    text = output[title.end():following.start() if following else len(output)]
    text = text.split("\n=====")[0]
    stack = [(file, int(line), function) for file, line, function in PLACE.findall(text)]
    inside = [(file, line, function) for file, line, function in stack if file.startswith("llm/")]
    place = "{} line {}, {}".format(*inside[-1]) if inside else ""
    tests = [(file, line) for file, line, _ in stack if file.startswith("tests/")]
    wanted = raised(folder / tests[-1][0], tests[-1][1]) if tests else ""
    return Failure(title.group(1), place, [line.rstrip() for line in SAID.findall(text)], wanted)


def raised(path, line):
    """The error that the `with pytest.raises(…)` around this line wants; "" where there is none."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and node.lineno <= line <= node.end_lineno:
            call = node.items[0].context_expr
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises":
                match = [ast.unparse(k.value) for k in call.keywords if k.arg == "match"]
                return f"{ast.unparse(call.args[0])}" + (
                    f", its message matching {match[0]}" if match else "")
    return ""
