"""Is a day's figure what its result draws? `python -m days.tools.checks.figures 33` tells.

With the matplotlib that drew the committed figure the two are the same, but for the last digits
of a coordinate on another processor. Another matplotlib draws otherwise; then the words must agree.
"""

import dataclasses
import json
import re
import sys
import tempfile
from pathlib import Path

from days import harness
from days.tools.data import course

PAIRS = [("result.json", "figure.svg"), ("full.json", "full.svg")]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
NAMES = re.compile(r'(?<=id=")[^"]*|(?<=href="#)[^"]*|(?<=url\(#)[^)]*')
NEAR = 0.02         # of a point


def faults(root, day):
    """Every figure of the day that its result does not draw."""
    run = course.load(course.part(root, day, "run.py"))
    fields = [field.name for field in dataclasses.fields(run.Result)]
    for data, picture in PAIRS:
        path = course.part(root, day, picture)
        if not (path.is_file() and path.with_name(data).is_file()):
            continue
        record = json.loads(path.with_name(data).read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / picture
            harness.figure(run.draw, run.Result(**{name: record[name] for name in fields}), drawn)
            fresh = drawn.read_text(encoding="utf-8")
        if not alike(path.read_text(encoding="utf-8"), fresh):
            yield (f"days/day{day:02d}/{picture}: is not what {data} draws; "
                   f"run `python -m days record {day}{' --full' * (data == 'full.json')}`")


def alike(old, new):
    """Do two figures show the same?"""
    if old == new:
        return True
    if version(old) != version(new):
        return texts(old) == texts(new)
    old, new = NAMES.sub("", old), NAMES.sub("", new)
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new))
    return (NUMBER.sub("", old) == NUMBER.sub("", new) and texts(old) == texts(new)
            and all(abs(float(a) - float(b)) < NEAR for a, b in pairs))


def version(svg):
    """Which matplotlib drew it."""
    found = re.search(r"Matplotlib v([\w.+-]+)", svg)
    return found and found[1]


def texts(svg):
    """All words and numbers that a reader sees."""
    return re.findall(r"<text\b[^>]*>(.*?)</text>", svg, re.S)


if __name__ == "__main__":
    print("\n".join(faults(course.ROOT, int(sys.argv[1]))))
