"""Numbers in *Measure* that no run stands behind: outside markers, and not declared as given.

What was measured goes between markers, so that it follows the next run. This holds for sentences,
for the words that stand for a picture, and for decimals in a table that a hand has made. Needing
no run are numbers that are known by how they are written (a day, a year, a section, the value of
a symbol, a name such as GPT-2 or 7-gram, an ordinal, 0 and 1), what stands in code or in a
formula that is more than a number, and what the section declares: `<!-- given: 64, 0.9, 1,024 -->`.
"""

import re
from dataclasses import dataclass

from days.tools.checks import prose
from days.tools.data import course, generated

GIVEN = re.compile(r"<!-- given: (.*?) -->", re.S)
NUMBER = re.compile(r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?")
DECIMAL = re.compile(r"\d*\.\d+")
BARE = re.compile(r"\$[\d.,\s\\{}%]+\$")                  # a formula that is only a number
PICTURE = re.compile(r"!\[[^\]]*\]\([^)\s]*\.svg\)")
RESULT = re.compile(r"^<!-- result -->$.*?^<!-- /result -->$", re.M | re.S)
MORE = r"\d+(?:(?:, |,? and | or | to |–|-)\d+)*(?:\.\d+)*"
NEEDS_NO_RUN = [re.compile(pattern, re.M) for pattern in (
    rf"\b(?:[Dd]ays?|[Pp]hases?|[Ss]ections?|[Cc]hapters?|[Aa]ppendix|[Tt]ables?|[Ff]igures?|"
    rf"[Ee]quations?|[Pp]ages?|[Ee]xercises?|[Rr]ows?|[Cc]olumns?|[Oo]rders?)\s+{MORE}",
    r"\b(?:19[5-9]|20[0-4])\d\b(?![.,]\d|\s*%)",          # a year
    r"\b[B-HJ-Z]\s\d+(?:,\d{3})*\b(?![.,]\d|\s*%)",       # C 128
    r"\b[A-Za-z]\s*=\s*\d+(?:,\d{3})*\b(?![.,]\d|\s*%)",  # T = 64
    r"\b[A-Za-z][A-Za-z_]*-?\d[\w.]*",                    # GPT-2, float32, cl100k, INT8
    r"\b\d+(?:st|nd|rd|th)\b",
    r"\b\d+-(?!fold|times)[A-Za-z]\w*",                   # 7-gram, 4-bit
    r"^[ \t]*\d+\.(?=\s)",                                # the number of a list item
    r"(?<![\d.,])[01](?![.,]?\d|\s*%|e[-+]?\d)",
)]


@dataclass(frozen=True)
class Found:
    """One number, and where it stands."""

    line: int
    number: str
    around: str


def unmarked(text):
    """[Found, …]: the numbers that need a marker or a declaration."""
    start, end = prose.section(text, "Measure")
    given, told = declared(text[start:end]), blanked(text)
    spans = [(start, end), *(m.span() for m in PICTURE.finditer(prose.unfenced(text))
                             if not start <= m.start() < end)]
    return [Found(text.count("\n", 0, m.start()) + 1, m.group(), around(text, m))
            for span in spans for m in NUMBER.finditer(told, *span) if m.group() not in given]


def listed(root, days=None):
    """One line for every number of the chosen days (None: all) that needs a marker."""
    for day in days or course.DAYS:
        if course.written(root, day):
            text = course.part(root, day, "README.md").read_text(encoding="utf-8")
            for found in unmarked(text):
                yield (f"days/day{day:02d}/README.md:{found.line}: {found.number}   "
                       f"… {found.around} …")


def faults(text):
    """Numbers of a note that need a marker, and declarations that nothing needs."""
    found = unmarked(text)
    if found:
        some = ", ".join(f"{f.number} (line {f.line})" for f in found[:8])
        yield (f"numbers in Measure that no run stands behind: {some}"
               f"{f' and {len(found) - 8} more' * (len(found) > 8)}; put what was measured between "
               f"markers, declare what needs no run: <!-- given: {found[0].number} -->")
    if unused(text):
        yield f"declares as given what Measure does not say: {', '.join(unused(text))}"


def unused(text):
    """What the section declares as given although it does not stand there."""
    start, end = prose.section(text, "Measure")
    plain = prose.COMMENT.sub("", generated.MARKER.sub("", text[start:end]))
    return [n for n in declared(text[start:end]) if n not in NUMBER.findall(plain)]


def declared(section):
    """The numbers of every <!-- given: … --> in order; a comma and a space divide them."""
    return [n for found in GIVEN.findall(section) for n in re.split(r"[,;]?\s+", found.strip())]


def blanked(text):
    """The text with all that needs no marker blanked, every number where it stood."""
    text = prose.blank(RESULT, prose.blank(generated.MARKER, text))
    shown = prose.prose(text)
    for m in BARE.finditer(prose.unfenced(text)):
        digits = re.sub(r"[^\d.,]", "", m.group())
        shown = over(shown, m.start(), digits)
    for pattern in NEEDS_NO_RUN:
        shown = prose.blank(pattern, shown)
    for row in prose.TABLE.finditer(prose.blank(prose.COMMENT, prose.unfenced(text))):
        for m in DECIMAL.finditer(prose.blank(prose.FORMULA, row.group())):
            shown = over(shown, row.start() + m.start(), m.group())
    return shown


def over(text, at, piece):
    """The text with `piece` written over what stands at `at`."""
    return text[:at] + piece + text[at + len(piece):]


def around(text, found, reach=40):
    """Some words on both sides of a number, in one line and without comments."""
    before, after = text[:found.start()], text[found.end():]
    before, after = (" ".join(prose.COMMENT.sub("", t).split(" "))
                     for t in (before[-400:], after[:400]))
    whole = f"{before[-reach:]}{found.group()}{after[:reach]}"
    return " ".join(whole.split())
