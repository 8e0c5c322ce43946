"""The parts of the notes and of README.md that are written by the machine, as pure functions.

A note holds a table between `<!-- result -->` and `<!-- /result -->` and numbers between
`<!--=field:.2f-->` and `<!--/-->`; both come from the day's result.json. README.md holds the
course map and the captioned tree of llm/.
"""

import dataclasses
import json
import re

from days.tools.data import course, ownership

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.M | re.S)
MARKER = re.compile(r"<!--=((?:(?!-->).)+)-->(?:(?!<!--).)*<!--/-->", re.S)
NAMES = {f.__name__: f for f in (abs, float, int, len, max, min, range, round, sorted, str, sum,
                                 zip)}


def result_of(root, day):
    """(record, rows): result.json as a dict, and the day's own table of it."""
    record = json.loads(course.part(root, day, "result.json").read_text(encoding="utf-8"))
    run = course.load(course.part(root, day, "run.py"))
    names = {field.name for field in dataclasses.fields(run.Result)}
    missing = names - set(record)
    if missing:
        raise ValueError(f"result.json has no {', '.join(sorted(missing))}; run the day again")
    return record, run.table(run.Result(**{name: record[name] for name in names}))


def note(text, record, rows):
    """A note with its table and its values as the result says."""
    text = block(text, "result", markdown(rows))
    parts, end = [], 0
    for fence in FENCE.finditer(text):              # code is left as it stands
        parts += [values(text[end:fence.start()], record), fence.group()]
        end = fence.end()
    return "".join(parts) + values(text[end:], record)


def values(text, record):
    """Write the value of each marker's expression after it."""
    def fill(match):
        return f"<!--={match[1]}-->{evaluate(match[1], record)}<!--/-->"
    return MARKER.sub(fill, text)


def evaluate(expression, record):
    """`ours/peer:.1f` over the fields of the record, by the rules of an f-string."""
    try:
        return str(eval(f'f"""{{{expression}}}"""', {"__builtins__": NAMES}, dict(record)))
    except Exception as error:
        raise ValueError(f"marker <!--={expression}-->: {type(error).__name__}: {error}") from None


def block(text, name, body):
    """Replace what stands between the lines <!-- name --> and <!-- /name -->."""
    pattern = re.compile(rf"^<!-- {name} -->\n.*?^<!-- /{name} -->$", re.M | re.S)
    return pattern.sub(lambda _: f"<!-- {name} -->\n{body}\n<!-- /{name} -->", text)


def markdown(rows):
    """Rows (the first is the header) as a table; columns of numbers to the right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    numeric = [all(re.match(r"[-+−]?[\d.]", row[j] or "0") for row in cells[1:])
               for j in range(len(cells[0]))]
    rule = ["--:" if right else ":--" for right in numeric]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])


def course_map(root):
    """The days by phase, linked where there is a note."""
    lines = []
    for index, (title, days) in enumerate(course.PHASES, 1):
        lines += [f"**Phase {index} · {title}**", ""]
        for day in days:
            here = course.written(root, day.number)
            name = f"[{day.title}](days/{day.name}/README.md)" if here else day.title
            lines.append(f"- {day.number:02d} {'▲ ' if day.spine else ''}{name}")
        lines.append("")
    return "\n".join(lines).rstrip()


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
    """README.md with the present map and tree."""
    return block(block(text, "map", course_map(root)), "tree", tree(root))
