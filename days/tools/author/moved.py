"""Which numbers of a note moved, each shown in its sentence: old → new."""

import re

from days.tools.checks import prose
from days.tools.data import generated

ENDS = re.compile(r"(?<=[.!?])[*_)”\"]*\s+(?=[^a-z\s])")
BLOCKS = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*|]|\d+\.)[ \t])")     # paragraphs, items, rows


def report(old, new, name):
    """The lines to show for a note that was `old` and is `new`."""
    found = list(sentences(old, new))
    rows = changed_rows(old, new)
    if rows:
        yield f"{name}: rows of the table that changed: {rows}; look at each"
    if not found:
        yield f"{name}: no number in the prose moved"
        return
    yield f"{name}: sentences with a number that moved: {len(found)}; read each again"
    for line, sentence in found:
        yield f"  line {line}: {sentence}"


def sentences(old, new):
    """(line, sentence) for each sentence of `new` with a marker whose value moved."""
    before, after = markers(old), markers(new)
    if [m[1] for m in before] != [m[1] for m in after]:
        raise ValueError("the two texts do not have the same markers")
    changes = {b.start(): f"[{value(a)} → {value(b)}]" for a, b in zip(before, after)
               if value(a) != value(b)}
    fenced = prose.unfenced(new)
    for start, end in spans(fenced):
        if any(start <= at < end for at in changes):
            inside = [m for m in after if start <= m.start() < end]
            first = start + len(new[start:]) - len(new[start:].lstrip())
            yield new.count("\n", 0, first) + 1, shown(new, start, end, inside, changes)


def markers(text):
    """The markers outside code."""
    return list(generated.MARKER.finditer(prose.unfenced(text)))


def value(marker):
    """What stands between a marker's two comments."""
    return prose.COMMENT.sub("", marker.group())


def spans(text):
    """(start, end) of every sentence, list item and row; a marker is never cut."""
    hidden = generated.MARKER.sub(lambda m: "x" * len(m.group()), text)
    hidden, start = prose.blank(prose.COMMENT, hidden), 0
    for cut in [*BLOCKS.finditer(hidden), None]:
        end = cut.start() if cut else len(text)
        at = start
        for stop in ENDS.finditer(hidden, start, end):
            yield at, stop.end()
            at = stop.end()
        yield at, end
        start = cut.end() if cut else end


def shown(text, start, end, inside, changes):
    """A sentence in one line, its moved numbers as [old → new], without any comment."""
    parts, at = [], start
    for marker in inside:
        parts += [text[at:marker.start()], changes.get(marker.start(), value(marker))]
        at = marker.end()
    plain = prose.COMMENT.sub("", "".join([*parts, text[at:end]]))
    return " ".join(plain.split())


def changed_rows(old, new):
    """How many rows of the table from the result differ, new and lost ones included."""
    tables = [re.findall(r"^<!-- result -->\n(.*?)^<!-- /result -->", text, re.M | re.S)
              for text in (old, new)]
    if not all(tables):
        return 0
    before, after = (table[0].splitlines() for table in tables)
    return (sum(a != b for a, b in zip(before, after)) + abs(len(before) - len(after)))
