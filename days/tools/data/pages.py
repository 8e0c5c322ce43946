"""The pages under notes/ that are made from the days: the tree, the indices, the paths, markers.

`fresh` gives the text that a page should have; `write` writes it, `verify` compares. A marker
on such a page names its file first: `<!--=days/day35/result.json: steps-->…<!--/-->`.
"""

import ast
import functools
import json
import re

from days.tools.checks.prose import blank
from days.tools.data import course, generated, hours, paths

CODE = re.compile(r"`[^`\n]+`")
ENOUGH, CUT = 60, 180       # characters of an exercise's or a symptom's first sentences


def each(root):
    """The Markdown pages under notes/."""
    return sorted((root / "notes").glob("*.md"))


def fresh(text, root):
    """The text of one page with its blocks and its values as the days say."""
    for name, make in BLOCKS.items():
        if generated.has_block(text, name):
            text = generated.block(text, name, make(root))
    return marked(text, {}, root)


def marked(text, record, root, skip=None):
    """The text with each marker's value; code, and the block named `skip`, stay as they are."""
    plain = blank(CODE, blank(generated.FENCE, text))
    if skip:
        plain = blank(re.compile(rf"^<!-- {skip} -->$.*?^<!-- /{skip} -->$", re.M | re.S), plain)
    parts, end = [], 0
    for marker in generated.MARKER.finditer(plain):
        parts += [text[end:marker.start()],
                  generated.values(marker.group(), record, records(root))]
        end = marker.end()
    return "".join(parts) + text[end:]


def records(root):
    """A reader of any committed record: a day's result.json or full.json, an experiment's JSON."""
    @functools.cache
    def read(name):
        found = json.loads((root / name).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {"rows": found}
    return read


def faults(root):
    """One line for each page that is not what the days say."""
    for path in each(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        try:
            if fresh(text, root) != text:
                yield f"{name}: is stale; run `python -m days write`"
        except Exception as error:      # a half-written day must not end the check
            yield f"{name}: cannot be written: {type(error).__name__}: {error}"


def written(root):
    """The days that have a note, by phase: [(number of the phase, title, [Day, …])]."""
    for index, (title, days) in enumerate(course.PHASES, 1):
        here = [day for day in days if course.written(root, day.number)]
        if here:
            yield index, title, here


def exercises(root):
    """Every exercise, day by day: what it asks, and the function that answers it."""
    lines, count, build = [], 0, 0
    for index, title, days in written(root):
        lines += ["", f"## Phase {index} · {title}", ""]
        for day in days:
            asked = hours.exercises(hours.note(root, day.number))
            graded = functions(course.part(root, day.number, "exercises.py"))
            lines += [f"**{heading(day)}**", ""]
            lines += [f"- *{kind.capitalize()}.* {short(said)}" for kind, said in asked
                      if kind != "build"]
            lines += [f"- *Build.* [`{name}`](../days/{day.name}/exercises.py): {short(what)}"
                      for name, what in graded]
            lines.append("")
            count += sum(kind != "build" for kind, _ in asked) + len(graded)
            build += len(graded)
    return "\n".join([f"{count} exercises: {build} to build, graded by `python -m days check`, and "
                      f"{count - build} to think about or to attack.", *lines]).rstrip()


def functions(path):
    """[(name, first sentence of its docstring)] of what exercises.py asks for."""
    if not path.is_file():
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {node.name: node for node in tree.body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    wanted = [name.removeprefix("check_") for name in parts if name.startswith("check_")]
    return [(name, (ast.get_docstring(parts[name]) or "").split("\n\n")[0])
            for name in wanted if name in parts]


def mistakes(root):
    """Every mistake that the course plants, day by day: its title, its file, what one sees."""
    lines, count = [], 0
    for index, title, days in written(root):
        lines += ["", f"## Phase {index} · {title}", ""]
        for day in days:
            path = course.part(root, day.number, "mistakes.py")
            found = course.load(path).MISTAKES if path.is_file() else []
            lines += [f"**{heading(day)}**", ""]
            lines += [f"- {capital(one.title)} ([`{one.file}`](../{one.file})). "
                      f"{short(one.symptom)}" for one in found]
            lines.append("")
            count += len(found)
    return "\n".join([f"{count} mistakes. `python -m days drill 7` plants one of day 7 in a copy, "
                      "for you to find.", *lines]).rstrip()


def heading(day):
    return f"[Day {day.number:02d} · {day.title}](../days/{day.name}/README.md)"


def short(text):
    """The first sentences of a text, a line of them, without links and without its label."""
    text = re.sub(r"<!--.*?-->", "", " ".join(text.split()))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\W*(?:think|attack|build)\b(?:\s*\([\w, ]+\))?[*_.:\s]+"
                  r"(?:\([\w, ]+\)\s*[*_.:]*\s*)?", "", text, flags=re.I).strip()
    said = ""
    for sentence in re.split(r"(?<=[.!?])[*_]*\s+", text):
        if said and (len(said) > ENOUGH or len(said) + len(sentence) > CUT):
            break
        said = f"{said} {sentence}".strip()
    if len(said) > CUT:
        said = said[:CUT].rsplit(" ", 1)[0] + " …"
    if said.endswith(":"):
        said = said[:-1] + " …"
    for mark in ("**", "$", "`", "*"):              # what is cut must not leave a mark open
        if said.count(mark) % 2:
            said = said[:said.rindex(mark)].rstrip(" .…") + " …"
    return re.sub(r"<(?=[\w|/])(?=[^`]*(?:`[^`]*`[^`]*)*$)", "&lt;", capital(said))


def capital(text):
    """The text with a capital where it begins with a word, and not with code."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+[ ,’'-]", text) else text


def learning_paths(root):
    """Each path as a table: its days, its hours, and what it takes for known."""
    lines = ["| Path | For whom | Days | Reading | Running | Exercises, our guess | In all |",
             "| :-- | :-- | --: | --: | --: | --: | --: |"]
    for path in paths.PATHS:
        time = hours.total(root, path.days)
        lines.append(f"| [{path.name}](#{path.anchor}) | {path.reader} | {len(path.days)} | "
                     + " | ".join(hours_of(m) for m in (time.reading, time.running,
                                                        time.exercises, time.whole)) + " |")
    for path in paths.PATHS:
        assumed = sorted(needed(root, path.days) - set(path.days))
        lines += ["", f"## {path.name}", "", path.about, ""]
        lines += ["| Day | | Read, minutes | Run, minutes | Builds on |", "| --: | :-- | --: | --: "
                  "| :-- |"]
        for number in path.days:
            time, day = hours.time(root, number), course.DAYS[number]
            before = sorted(hours.builds_on(hours.note(root, number)) or []) if (
                course.written(root, number)) else []
            lines.append(f"| {number:02d} | [{day.title}](../days/{day.name}/README.md) | "
                         f"{time.reading:.0f} | {time.running:.1f} | "
                         f"{' '.join(f'{n:02d}' for n in before) or '–'} |")
        if assumed:
            lines += ["", "These days build on others that are not part of the path. Read them, or "
                      "know what they hold: " + "; ".join(
                          f"[{n:02d}](../days/day{n:02d}/README.md) {course.DAYS[n].title}"
                          for n in assumed) + "."]
        else:
            lines += ["", "Everything that these days build on is part of the path."]
    return "\n".join(lines)


def needed(root, days):
    """All days that the notes of these days say they build on."""
    return {n for day in days if course.written(root, day)
            for n in hours.builds_on(hours.note(root, day)) or []}


def hours_of(minutes):
    """Minutes as a reader plans them: "40 min", "12 h"."""
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.0f} h"


BLOCKS = {"tree": generated.tree, "exercises": exercises, "mistakes": mistakes,
          "paths": learning_paths}
