"""What every note promises: its headings, its length, code that is real, numbers that were run."""

import re
from collections import Counter

from days.tools.checks import numbers
from days.tools.checks.prose import headings, section, unfenced, words
from days.tools.data import course, generated, hours
from days.tools.learner import tags

HEADINGS = ["Question", "Today, and not today", "Understand", "Derive", "By hand", "Build",
            "Measure", "Trade-offs, and where this lives today", "Common mistakes", "Exercises",
            "Sources", "Tomorrow"]
TRADE_OFFS = HEADINGS[7]
WORDS = range(1200, 3001)      # of prose: tables, formulas, code and comments do not count
LINK = re.compile(r"!?\[[^\]\n]*\]\(<?([^)\s>]+)>?[^)\n]*\)")
DAY_LINK = re.compile(r"(?<=<!--=day\()\d+\)-->.*?(?=<!--/-->)", re.S)


def faults(root, day, owners):
    """Everything wrong with the note of one day; a day without a note has no faults yet."""
    path = f"days/day{day:02d}/README.md"
    if not course.written(root, day):
        return []
    text = (root / path).read_text(encoding="utf-8")
    found = [*shape(text, day), *fragments(text, root, day, owners), *stale(text, root, day),
             *builds_on(text, root, day), *numbers.faults(text)]
    beside = [f"days/day{day:02d}/{page.name}: {fault}" for page in course.notes(root, day)[1:]
              for fault in values(page.read_text(encoding="utf-8"), root, day)]
    return [f"{path}: {fault}" for fault in found] + beside


def shape(text, day):
    """Title, headings in order, length, a reflection, a folded answer."""
    if not text.startswith(f"# Day {day:02d} · "):
        yield f"the first line should be '# Day {day:02d} · Title'"
    present, wanted = headings(text), [*HEADINGS]
    if present[-1:] == [review(day)]:           # the last day of a phase may look back on it
        wanted.append(review(day))
    missing = [name for name in wanted if name not in present]
    extra = [name for name in present if name not in wanted]
    twice = [name for name, n in Counter(present).items() if n > 1]
    for what, names in [("has no heading", missing), ("has a strange heading", extra),
                        ("has twice the heading", twice)]:
        if names:
            yield f"{what} {', '.join(f'## {name}' for name in names)}"
    if not (missing or extra or twice) and present != wanted:
        yield f"the headings are out of order: {', '.join(present)}"
    count = words(text.partition(f"\n## {review(day)}\n")[0])     # a look back on a phase is extra
    if count not in WORDS:
        yield f"{count} words of prose; {WORDS.start:,} to {WORDS.stop - 1:,} are wanted"
    start, end = section(text, TRADE_OFFS)
    if not re.search(r"^\*\*Reflect\.\*\* \w", text[start:end], re.M):
        yield f"## {TRADE_OFFS} has no paragraph that begins with **Reflect.**"
    if "<details>" not in unfenced(text):
        yield "no exercise has its answer folded in <details>"


def review(day):
    """The heading that the last day of a phase may have after the others, else None."""
    return next((f"Phase {n} in review" for n, (_, days) in enumerate(course.PHASES, 1)
                 if days[-1].number == day), None)


def fragments(text, root, day, owners):
    """A fence that names a file must stand in that file, verbatim."""
    for fence in generated.FENCE.finditer(text):
        language, _, path = fence[2].strip().partition(" ")
        if not path:
            continue
        first = fence[3].strip().split("\n")[0]
        if language != "python" or not (root / path).is_file():
            yield f"a fragment is said to be from {path}, which is not there"
        elif not first:
            yield f"a fragment of {path} is empty"
        elif "\n" + fence[3].strip("\n") + "\n" not in (
                "\n" + (root / path).read_text(encoding="utf-8")):
            yield f"the fragment '{first}' is not verbatim in {path}"
        elif owners.get(path, 0) > day:
            yield f"shows {path}, which belongs to day {owners[path]:02d}"


def stale(text, root, day):
    """There is a table, the figure is shown, and all values are fresh."""
    if "(figure.svg)" not in text:
        yield "does not show its figure.svg"
    if not generated.has_block(text, "result"):
        yield "has no table between one <!-- result --> and one <!-- /result -->"
    yield from values(text, root, day)


def values(text, root, day):
    """What stands in markers must be what `write` would write."""
    if text.count("<!--=") != len(generated.MARKER.findall(text)):
        yield "a value marker <!--=…--> is not closed by <!--/-->"
    try:
        fresh = generated.fresh(root, day, text)
    except Exception as error:      # whatever a half-written run.py does, the check goes on
        yield f"cannot be written from result.json: {type(error).__name__}: {error}"
        return
    if fresh != text and tags.day_of_checkout(root) is not None:
        text, fresh = (DAY_LINK.sub("", t) for t in (text, fresh))      # a later day is not here
    pairs = zip(text.split("\n"), fresh.split("\n"))
    changed = next((old for old, new in pairs if old != new), None)
    if fresh != text:
        yield (f"is stale at '{(changed or '').strip()[:60]}'; "
               f"run `python -m days write {day:02d}`")


def builds_on(text, root, day):
    """*Question* names the days that it builds on: each earlier, each with a note."""
    named = hours.builds_on(text)
    if named is None:
        yield "Question does not say what the day builds on (Builds on days 27 and 28.)"
        return
    for number in sorted(named):
        if not 1 <= number < day:
            yield f"builds on day {number:02d}, which is not an earlier one"
        elif not course.written(root, number):
            yield f"builds on day {number:02d}, which has no note yet"


def links(root, path):
    """Links of a Markdown file to files or headings that are not there."""
    text = unfenced((root / path).read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        goal = (root / path).parent / name if name else root / path
        if not goal.exists():
            later = re.search(r"day(\d\d)(/|$)", name)
            cure = f"; write <!--=day({int(later[1])})-->?<!--/--> instead" if (
                later and not course.written(root, int(later[1]))) else ""
            yield f"{path}: links to {name}, which is not there{cure}"
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            yield f"{path}: links to {target}, but there is no such heading"


def anchors(path):
    """The names that GitHub gives to the headings of a Markdown file."""
    text = unfenced(path.read_text(encoding="utf-8"))
    found = re.findall(r"""<a (?:id|name)=["']([^"']+)""", text)
    for heading in re.findall(r"^#+ (.+?)[ #]*$", text, re.M):
        plain = re.sub(r"\]\([^)]*\)", "", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(name == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", name) is not None
                    for name in found)
        found.append(f"{slug}-{count}" if count else slug)
    return found
