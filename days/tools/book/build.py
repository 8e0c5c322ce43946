"""`python -m days book`: lay the pages out, let Sphinx set them, and check every link.

Everything on the way is kept in .course/book/, so a second build sets only what has changed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from days.harness import UsageError, console
from days.tools.book import code, front, links, note, spiral
from days.tools.book.places import Shelf
from days.tools.data import scratch

NEEDS = {"sphinx": "sphinx", "myst_parser": "myst-parser", "furo": "furo",
         "sphinxcontrib.katex": "sphinxcontrib-katex", "py_mini_racer": "mini-racer",
         "ziamath": "ziamath", "fontTools": "fonttools"}
PIP = "python -m pip install -r requirements-book.txt"


def build(root, out=None, days=None, work=None):
    """Build the book into `out` (root/book); status 0 when it is whole and every link resolves."""
    need()
    began = time.perf_counter()
    out, work = Path(out or root / "book"), Path(work or root / ".course" / "book")
    if out.exists() and any(out.iterdir()) and not (out / "objects.inv").exists():
        raise UsageError(f"{out} is not empty and no book; choose another folder with --out")
    shelf = Shelf.of(root, days)
    if not shelf.days:
        raise UsageError("none of these days has a note yet; try: python -m days book --days 1-8")
    pages = lay_out(shelf, work)
    said = sphinx(root, work, out)
    faults = [*said, *links.faults(out)]
    for fault in faults[:30]:
        console(stderr=True).print(fault, markup=False, soft_wrap=True)
    if faults:
        console(stderr=True).print(f"{len(faults)} faults: the book is not as it should be",
                                   markup=False)
        return 1
    took = time.perf_counter() - began
    console().print(f"{len(shelf.days)} days, {pages} pages in {took:.0f} s; every link resolves. "
                    f"Open {(out / 'index.html').resolve().as_uri()}",
                    markup=False, soft_wrap=True)
    return 0


def need():
    """All that the book is made with, or one line with the cure."""
    def there(name):
        try:
            return find_spec(name) is not None
        except ModuleNotFoundError:                     # the package above it is missing
            return False
    missing = [package for name, package in NEEDS.items() if not there(name)]
    if missing:
        raise UsageError(f"the book is made with {', '.join(missing)}, not installed here: {PIP}")


def lay_out(shelf, work):
    """Write the Markdown of every page under work/source, and what is copied under work/extra."""
    root, made = shelf.root, {}
    read = {path: (root / path).read_text(encoding="utf-8", errors="replace")
            for path in shelf.code}
    notes = {n: (root / f"days/day{n:02d}/README.md").read_text(encoding="utf-8")
             for n in shelf.days}
    readme = (root / "README.md").read_text(encoding="utf-8")
    sheets = {path: (root / path).read_text(encoding="utf-8") for path in shelf.sheets}
    pairs, glossary = spiral.edges(notes), sheets.get("notes/glossary.md", "")
    for path, text in read.items():
        made[f"code/{path}.md"], made[f"code/{path}.listing"] = code.page(
            path, text, shelf, shelf.owners[path])
    for path, text in sheets.items():
        orphan = "" if path.startswith("notes/") else "---\norphan: true\n---\n\n"
        if path == "notes/glossary.md":
            text = spiral.anchored(text)
        made[path] = orphan + note.convert(text, shelf, path, path)
    for day in shelf.days:
        made[f"days/day{day:02d}/index.md"] = front.of_day(
            day, shelf, read, spiral.returns(day, pairs, glossary))
    made |= {"index.md": front.index(readme, notes, shelf), "guide.md": front.guide(readme, shelf),
             "play.md": front.play(shelf), "spiral.md": spiral.page(shelf.days, pairs),
             "code/index.md": front.everything(shelf, read)}
    figures = {path for path in shelf.wanted if path.endswith((".svg", ".png"))}
    source, extra = work / "source", work / "extra"
    for path, text in made.items():
        put(source / path, text.encode())
    for path in shelf.wanted:
        data = (root / path).read_bytes()
        if path in figures:                             # to be shown; some are linked, too
            put(source / path, data)
        put(extra / path,
            front.at_home(data.decode(), shelf).encode() if path.endswith(".html") else data)
    sweep(source, {*made, *figures})
    sweep(extra, shelf.wanted)
    font(work / "math.woff", extra / "_static" / "math.woff")
    return sum(path.endswith(".md") for path in made)


def put(path, data):
    """Write a file unless it already says this: Sphinx sets anew what is newer."""
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def sweep(folder, kept):
    """Take away what an earlier build left and this one does not have."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in kept and not name.startswith("_static/"):
            path.unlink()


def font(cache, target):
    """STIX Two Math, cut down to the characters that formulas use, as a web font."""
    if not cache.is_file():
        import ziamath
        from fontTools import subset
        options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
        whole = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
        loaded = subset.load_font(str(whole), options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=[*range(0x20, 0x250), *range(0x300, 0x400), *range(0x2000, 0x2400),
                                  *range(0x25A0, 0x2600), *range(0x2700, 0x2A00),
                                  *range(0x2A00, 0x2B00), *range(0x1D400, 0x1D800)])
        cutter.subset(loaded)
        subset.save_font(loaded, str(cache.with_suffix(".part")), options)
        loaded.close()
        cache.with_suffix(".part").replace(cache)
    put(target, cache.read_bytes())


def sphinx(root, work, out):
    """Run Sphinx; returns its warnings, one a line, with the places in our words."""
    settings = Path(__file__).resolve().parent
    log = work / "warnings.txt"
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(settings),
                           "-d", str(work / "doctrees"), "-w", str(log),
                           "-D", f"html_extra_path={work / 'extra'}",
                           str(work / "source"), str(out)],
                          env=scratch.environment(root, PYTHONWARNINGS="ignore"), cwd=work,
                          capture_output=True, encoding="utf-8", errors="replace")
    said = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if done.returncode and not said:
        said = [scratch.last_words(done)]
    with contextlib.suppress(OSError):
        shutil.rmtree(out / ".doctrees")
    return [line.replace(str(work / "source") + os.sep, "") for line in said]
