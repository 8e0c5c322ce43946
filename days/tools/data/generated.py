"""The parts of the notes and of README.md that are written by the machine, as pure functions.

A note holds a table between `<!-- result -->` and `<!-- /result -->` and numbers between
`<!--=field:.2f-->` and `<!--/-->`; both come from the day's result.json. A marker may name another
file first: `<!--=full.json: field-->`, the day's long run, or `<!--=experiments/x.json: field-->`.
`<!--=day(36)-->` is a link to the note of that day, or says that it is not yet written.
README.md holds the course map; days/tools/data/pages.py writes the pages under notes/.
"""

import dataclasses
import functools
import json
import re

from days.tools.data import course, ownership

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.M | re.S)
MARKER = re.compile(r"<!--=((?:(?!-->).)+)-->(?:(?!<!--).)*<!--/-->", re.S)
SOURCE = re.compile(r"([\w./-]+\.json):\s+(.+)", re.S)
NAMES = {f.__name__: f for f in (abs, all, any, enumerate, float, int, len, list, max, min, next,
                                 range, round, set, sorted, str, sum, tuple, zip)}


def result_of(root, day):
    """(record, rows): result.json as a dict, and the day's own table of it."""
    record = json.loads(course.part(root, day, "result.json").read_text(encoding="utf-8"))
    run = course.load(course.part(root, day, "run.py"))
    names = {field.name for field in dataclasses.fields(run.Result)}
    missing = names - set(record)
    if missing:
        raise ValueError(f"result.json has no {', '.join(sorted(missing))}; run the day again")
    return record, run.table(run.Result(**{name: record[name] for name in names}))


def others(root, day):
    """A reader of the other JSON files that the markers of a day may name, as dicts."""
    @functools.cache
    def read(name):
        path = f"days/day{day:02d}/full.json" if name == "full.json" else name
        claims = ownership.claims(path, ownership.head(root))
        if not path.startswith(("days/day", "experiments/")) or not (root / path).is_file():
            raise ValueError(f"there is no {path}")
        if len(claims) != 1 or max(claims) > day:
            raise ValueError(f"{path} is not a file of this day or an earlier one")
        found = json.loads((root / path).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {"rows": found}
    return read


def note(text, record, rows, other=None):
    """A note with its table and its values as the result says."""
    text = block(text, "result", markdown(rows))
    parts, end = [], 0
    for fence in FENCE.finditer(text):              # code is left as it stands
        parts += [values(text[end:fence.start()], record, other), fence.group()]
        end = fence.end()
    return "".join(parts) + values(text[end:], record, other)


def values(text, record, other=None):
    """Write the value of each marker's expression after it."""
    def fill(match):
        return f"<!--={match[1]}-->{evaluate(match[1], record, other)}<!--/-->"
    return MARKER.sub(fill, text)


def evaluate(marker, record, other=None):
    """`ours/peer:.1f` over the fields of a record, by the rules of an f-string."""
    try:
        named = SOURCE.fullmatch(marker)
        names, expression = (other(named[1]), named[2]) if named else (record, marker)
        return str(eval(f'f"""{{{expression}}}"""', {**names, "__builtins__": NAMES}))
    except Exception as error:
        raise ValueError(f"marker <!--={marker}-->: {type(error).__name__}: {error}") from None


def fresh(root, day, text):
    """The text of a day's note as its files say."""
    record, rows = result_of(root, day)
    link = functools.partial(link_to, root)
    return note(text, {"day": link, **record}, rows, others(root, day))


def link_to(root, day):
    """The marker <!--=day(36)-->: a link to the note of that day, once there is one."""
    name = f"Day {day:02d}"
    return f"[{name}](../day{day:02d}/README.md)" if course.written(root, day) else (
        f"{name} (not yet written)")


def block(text, name, body):
    """Replace what stands between the lines <!-- name --> and <!-- /name -->."""
    pattern = re.compile(rf"^<!-- {name} -->\n.*?^<!-- /{name} -->$", re.M | re.S)
    return pattern.sub(lambda _: f"<!-- {name} -->\n{body}\n<!-- /{name} -->", text)


def has_block(text, name):
    """Is there one block of that name, with its beginning and its end?"""
    found = re.findall(rf"^<!-- (/?){name} -->$", text, re.M)
    return found == ["", "/"]


def markdown(rows):
    """Rows (the first is the header) as a table; columns of numbers to the right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    numeric = [all(re.match(r"[-+−]?[\d.]", row[j] or "0") for row in cells[1:])
               for j in range(len(cells[0]))]
    rule = ["--:" if right else ":--" for right in numeric]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])


def course_map(root):
    """The days, a row for each phase, linked where there is a note."""
    lines = ["| Phase | Days |", "| :-- | :-- |"]
    for index, (title, days) in enumerate(course.PHASES, 1):
        names = [f"{day.number:02d}{' ▲' * day.spine} " + (
            f"[{day.title}](days/{day.name}/README.md)" if course.written(root, day.number)
            else day.title) for day in days]
        lines.append(f"| **{index} · {title}** | {' · '.join(names)} |")
    return "\n".join(lines)


def tree(root):
    """One captioned line for each room and file of llm/, from their first lines."""
    lines = []
    read = ownership.head(root)
    names = [p for p in ownership.files(root) if p.startswith("llm/") and p.endswith(".py")]
    for path in sorted(names, key=lambda p: (p.split("/")[:-1], not p.endswith("__init__.py"), p)):
        folder, name = path.rsplit("/", 1)
        said = re.sub(r'^[rR]?"""', "", read(path).split("\n")[0]).rstrip('"').rstrip(".")
        if name == "__init__.py":
            lines.append(f"{'  ' * folder.count('/') + folder.split('/')[-1] + '/':<22} {said}")
        else:
            indent = "  " * (folder.count("/") + 1)
            lines.append(f"{indent + name:<22} {said.removeprefix('Day ')}")
    return "```text\n" + "\n".join(lines) + "\n```"


def readme(text, root):
    """README.md with the present map, what the main job showed, and its other values."""
    from days.tools.data import first_run, pages  # they write with the functions above
    return pages.marked(first_run.fresh(block(text, "map", course_map(root)), root), {}, root,
                        skip="first-run")
