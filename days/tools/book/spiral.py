"""The spiral made visible: where a day returns later, and a graph of what builds on what.

All of it is read from the notes that this book has: which days a note builds on stands in its
*Question*, with what it needs of each in brackets. The words of a day are those of the glossary.
"""

import html
import re

from days.tools.book.places import relative
from days.tools.checks.prose import section
from days.tools.data import course, hours

NEEDS = re.compile(r"(\d+(?:(?:,? and |, | to |–|-)\d+)*)\s+\(([^()]+)\)")
WORD = re.compile(r"^- (?=\*\*(.+?)\*\* \(\[day (\d\d)\])", re.M)


def edges(notes):
    """{(earlier, later): what the later note needs of the earlier one, or ""} of {day: note}."""
    found = {}
    for day, text in notes.items():
        what = needed(text)
        found |= {(before, day): what.get(before, "")
                  for before in sorted(hours.builds_on(text) or []) if before in notes}
    return found


def needed(text):
    """{day: the words in brackets after it} of a note's line *Builds on*; the first ones count."""
    start, end = section(text, "Question")
    line = re.search(r"[Bb]uilds on(.*)|$", " ".join(text[start:end].split()))[0]
    said = {}
    for some, what in NEEDS.findall(line):
        for day in hours.numbers(some):
            said.setdefault(day, what)
    return said


def nearest(pairs):
    """The pairs that no chain of other pairs implies: what a picture can show at once."""
    above = {}                                  # all days that a day rests on, near and far
    for before, day in sorted(pairs, key=lambda pair: pair[1]):
        above.setdefault(day, set()).update({before}, above.get(before, ()))
    return {(a, b) for a, b in pairs
            if not any((mid, b) in pairs and a in above.get(mid, ()) for mid in above)}


def anchor(word, day):
    """Where a word of a day stands on the page of the glossary."""
    return f"word-{re.sub('[^a-z0-9]+', '-', word.lower()).strip('-')}-{day}"


def anchored(glossary):
    """The glossary with an anchor before each word, so that days can link to it."""
    return WORD.sub(lambda one: f'- <span id="{anchor(*one.groups())}"></span>', glossary)


def returns(day, pairs, glossary):
    """The end of a day's page: the later days that build on it, and its words."""
    page, parts = f"days/day{day:02d}/index.md", []
    later = [f"- {link(page, b)} {what}" for (a, b), what in pairs.items() if a == day]
    said = [f'<a href="{relative(page, "notes/glossary.html")}#{anchor(word, n)}">{word}</a>'
            for word, n in WORD.findall(glossary) if int(n) == day]
    if later:
        graph = f'<a href="{relative(page, "spiral.html")}">what builds on what</a>'
        parts += ["\n\n## Where this returns\n",
                  "These later days build on this one. What each needs of it stands beside it; the "
                  f"whole graph is on the page {graph}.\n",
                  "::::{container} returns", *later, "::::\n"]
    if said:
        parts += ["\n\n## Words of this day\n", f"In the glossary: {', '.join(said)}.\n"]
    return "\n".join(parts)


def link(page, day):
    return (f'<a href="{relative(page, f"days/day{day:02d}/index.html")}">{day:02d} '
            f"{html.escape(course.DAYS[day].title)}</a>")


def page(days, pairs):
    """The page with the graph: a line for each day, arcs on its left, and the same in words."""
    near, rows, lines, arcs = nearest(pairs), {}, [], []
    for phase, (title, ours) in enumerate(course.PHASES, 1):
        here = [day.number for day in ours if day.number in days]
        if here:
            lines.append(f'<li class="phase hue{phase}">{phase} · {html.escape(title)}</li>')
        for day in here:
            rows[day] = len(lines) + .5, phase
            joined = sorted({day, *(n for pair in pairs if day in pair for n in pair)})
            lines.append(f'<li class="day{day} hue{phase} {" ".join(f"of{n}" for n in joined)}">'
                         f"{link('spiral.md', day)}</li>")
    for a, b in pairs:
        (top, phase), end = rows[a], rows[b][0]
        x = 100 - 130 * ((end - top) / len(lines)) ** .5        # the curve goes ¾ as far
        arcs.append(f'<path class="{"near" if (a, b) in near else "far"} hue{phase} of{a} of{b}" '
                    f'd="M100 {top} C{x:.1f} {top} {x:.1f} {end} 100 {end}"/>')
    chosen = ",".join(f".graph:has(.day{n}>a:is(:hover,:focus-visible)) .of{n}" for n in days)
    said = [f"- {link('spiral.md', day)} builds on {series(a for a, b in pairs if b == day)}; "
            f"returns on {series(b for a, b in pairs if a == day)}" for day in days]
    return f"""# What builds on what

An arc leads from a day down to a day that builds on it. The notes name {len(pairs)} such pairs.
The {len(near)} arcs drawn are those that no chain of others implies. Point at a day, or go to it
with the Tab key, and all of its arcs show. An arc has the colour of its earlier day's phase.

<style>{chosen}{{opacity:1;stroke-width:2.2px;font-weight:700}}</style>
<div class="graph" style="--rows:{len(lines)}">
<svg viewBox="0 0 100 {len(lines)}" preserveAspectRatio="none" aria-hidden="true">
{"".join(arcs)}</svg>
<ol role="list">{"".join(lines)}</ol>
</div>

## The same in words

""" + "\n".join(said) + "\n"


def series(days):
    named = [f'<a href="days/day{n:02d}/index.html">{n:02d}</a>' for n in days]
    return ", ".join(named) or "no day"
