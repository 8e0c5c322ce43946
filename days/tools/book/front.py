"""The pages that hold the book together: the front page, the guide, the code, the pages to play."""

import re

from days.tools.book import code, note
from days.tools.data import course

REFERENCE = ["notation", "mathematics", "derivations", "glossary", "troubleshooting", "sources"]
BADGE = '<span class="spine" title="on the spine">▲</span>'


def index(readme, notes, shelf):
    """The front page: what the course is, and the days by phase, each with its question."""
    intro = readme.split("\n## ")[0].split("\n", 1)[1].strip()
    first = f"days/day{shelf.days[0]:02d}/index.html" if shelf.days else "guide.html"
    lines = ["# A language model in sixty-four days\n", '<div class="hero">\n',
             note.convert(intro, shelf, "index.md", "README.md"), '\n</div>\n',
             f'<p class="ways"><a class="first" href="{first}">Begin with the first day</a>'
             '<a href="guide.html">How to run it</a><a href="spiral.html">What builds on what</a>'
             '<a href="play.html">Pages to play with</a>'
             '<a href="code/index.html">All the code</a></p>\n',
             f"{BADGE} marks the spine: the shortest path to a GPT that writes.\n"]
    for number, (title, days) in enumerate(course.PHASES, 1):
        lines += [f"## Phase {number} · {title}\n", "::::{container} days\n",
                  "| Day | | What it asks |", "| --: | :-- | :-- |"]
        lines += [row(day, notes.get(day.number), shelf.root) for day in days]
        lines.append("\n::::\n")
    return "\n".join([*lines, *trees(notes, shelf)])


def row(day, text, root):
    """One day in the table of its phase."""
    mark = f" {BADGE}" if day.spine else ""
    if text is None:
        why = "not in this book" if course.written(root, day.number) else "not yet written"
        return f'| {day.number:02d} | <span class="later">{day.title}{mark}</span> | *{why}* |'
    asks = re.sub(r"(?<!\\)\|", r"\\|", note.PIECE.sub(
        lambda m: m["keep"] or m["said"] or "", note.question(text)))
    link = f'<a href="days/{day.name}/index.html">{day.title}</a>'
    return f"| {day.number:02d} | {link}{mark} | {asks} |"


def trees(notes, shelf):
    """The table of contents that the sidebar, and previous and next, are made from."""
    yield tree("The course", ["guide", "spiral", "play", "code/index"])
    for number, (title, days) in enumerate(course.PHASES, 1):
        here = [f"{d.number:02d} · {d.title} <days/{d.name}/index>" for d in days
                if d.number in notes]
        if here:
            yield tree(f"{number} · {title}", here)
    pages = [f"notes/{name}" for name in REFERENCE] + sorted(
        p[:-3] for p in shelf.sheets if p.startswith("notes/") and p[6:-3] not in REFERENCE)
    yield tree("Reference", [p for p in pages if (shelf.root / f"{p}.md").is_file()])


def tree(caption, entries):
    return "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {caption}\n", *entries, "```\n"])


def guide(readme, shelf):
    """How to install, run and follow the course: README.md without its map and its tree."""
    body = "\n## " + "\n## ".join(readme.split("\n## ")[1:])
    body = re.sub(r"\n## (The course map|What is in the package)\n.*?(?=\n## |\Z)", "", body,
                  flags=re.S)
    return ("# How to run and follow the course\n"
            + note.convert(body, shelf, "guide.md", "README.md"))


def play(shelf):
    """The interactive pages, one under the other, in the order of their days."""
    lines = ["# Pages to play with\n", "They run in the browser alone, without a network.\n"]
    pages = [path for path in shelf.owners if path.startswith("notes/interactive/")
             and path.endswith(".html")]
    for path in sorted(pages, key=lambda path: (shelf.owners[path], path)):
        text = (shelf.root / path).read_text(encoding="utf-8")
        title, _, what = re.search("<title>(.*?)</title>", text, re.S)[1].partition(" · ")
        lines += [f"## {title}\n", f"{what}\n",
                  note.player(shelf.link("play.md", "README.md", path))]
    return "\n".join(lines)


def at_home(text, shelf):
    """An interactive page whose links to notes lead to the book's, out of the frame it is in."""
    def link(match):
        there = int(match[2]) in shelf.days
        target = f"days/day{match[2]}/index.html" if there else "index.html"
        return f'href="{match[1]}{target}" target="_top"'
    return re.sub(r'href="((?:\.\./)+)days/day(\d\d)/README\.md"', link, text)


def everything(shelf, texts):
    """All code of the book, folder by folder, with the first line of each file."""
    lines = ["# All the code\n",
             "Each file belongs to one day; its first line says to which.\n"]
    folder = None
    for path in sorted(shelf.code, key=lambda p: (p.count("/") == 0, p.rpartition("/")[0], p)):
        here = path.rpartition("/")[0]
        if here != folder:
            lines += [f"\n## {here or 'At the top'}\n"]
            folder = here
        lines.append(line("code/index.md", path, texts[path], shelf.owners[path]))
    return "\n".join(lines) + "\n"


def line(page, path, text, owner=0):
    """One file in a list: linked, with its day and its first line."""
    from days.tools.book.places import relative
    day = f"day {owner:02d}, " if owner else ""
    said = code.caption(text, path)
    return (f'- <a href="{relative(page, f"code/{path}.html")}"><code>{path.rpartition("/")[2]}'
            f"</code></a> <small>{day}{text.count(chr(10))} lines</small> {said}")


def files_of(day, shelf, texts):
    """The end of a day's page: the files it adds, those of llm/ first."""
    rooms = ["llm", "days", "tests", "experiments"]
    mine = sorted((path for path in shelf.code if shelf.owners[path] == day),
                  key=lambda path: (rooms.index(path.split("/")[0])
                                    if path.split("/")[0] in rooms else len(rooms), path))
    if not mine:
        return ""
    page = f"days/day{day:02d}/index.md"
    rows = [line(page, path, texts[path]).replace(f"<code>{path.rpartition('/')[2]}<",
                                                  f"<code>{path}<") for path in mine]
    return "\n\n## The files of this day\n\n" + "\n".join(rows) + "\n"


def of_day(day, shelf, texts, returns=""):
    """The page of a day: its note, where it returns, and the files it adds."""
    file = f"days/day{day:02d}/README.md"
    text = (shelf.root / file).read_text(encoding="utf-8")
    return (note.convert(text, shelf, f"days/day{day:02d}/index.md", file)
            + returns + files_of(day, shelf, texts))


