"""README.md's `first-run` block: what `make run` shows, from the main job's recorded result.

The block's code is a piece of the page that the model wrote and what the run prints at its end;
markers in the rest of the block read the same result.
"""

import contextlib
import dataclasses
import io
import json
import re

from days.tools.data import course, generated

MAIN = 35       # the day that `make run` runs
BLOCK = re.compile(r"^<!-- first-run -->\n.*?^<!-- /first-run -->$", re.M | re.S)


def fresh(text, root):
    """README.md with its first-run block as the result says; unchanged where there is none."""
    path = course.part(root, MAIN, "result.json")
    if not BLOCK.search(text) or not path.is_file():
        return text
    record = json.loads(path.read_text(encoding="utf-8"))
    code = f"```text\n{excerpt(record['page'])}\n[…]\n{shown(root, record)}\n```"

    def fill(match):
        block = generated.FENCE.sub(lambda _: code, match.group(), count=1)
        return generated.values(block, record)
    return BLOCK.sub(fill, text)


def excerpt(page):
    """The first speech of three lines or more that fits on a screen and ends, else the start."""
    speeches = [speech.strip("\n") for speech in re.split(r"\n\s*\n", page)]
    return next((s for s in speeches if len(s.splitlines()) >= 3 and s.endswith((".", "!", "?"))
                 and max(map(len, s.splitlines())) < 80), "\n".join(page.splitlines()[:3]))


def shown(root, record):
    """What the run prints at its end."""
    run = course.load(course.part(root, MAIN, "run.py"))
    fields = [field.name for field in dataclasses.fields(run.Result)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run.show(run.Result(**{name: record[name] for name in fields}))
    return "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").splitlines())
