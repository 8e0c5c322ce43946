"""TeX to MathML while the book is built, so that a page needs no script and no network to read it.

KaTeX does the work (its JavaScript comes with sphinxcontrib-katex and runs in mini-racer). What it
writes is MathML 3; browsers read MathML Core. The differences: letters in bold, script or double
strokes are characters of their own there, and columns are aligned by style.
"""

import html
import json
import re
from pathlib import Path

BLOCKS = {                                       # first A, first a, first 0 of each alphabet
    "bold": (0x1D400, 0x1D41A, 0x1D7CE), "italic": (0x1D434, 0x1D44E, None),
    "bold-italic": (0x1D468, 0x1D482, 0x1D7CE), "script": (0x1D49C, 0x1D4B6, None),
    "fraktur": (0x1D504, 0x1D51E, None), "double-struck": (0x1D538, 0x1D552, 0x1D7D8),
    "sans-serif": (0x1D5A0, 0x1D5BA, 0x1D7E2), "monospace": (0x1D670, 0x1D68A, 0x1D7F6),
}
GREEK = {"bold": (0x1D6A8, 0x1D6C2), "bold-italic": (0x1D71C, 0x1D736)}
OLDER = {chr(0x1D400 + at): c for at, c in {    # letters that Unicode had before the blocks came
    0x55: "ℎ", 0x9D: "ℬ", 0xA0: "ℰ", 0xA1: "ℱ", 0xA3: "ℋ", 0xA4: "ℐ", 0xA7: "ℒ", 0xA8: "ℳ",
    0xAD: "ℛ", 0xBA: "ℯ", 0xBC: "ℊ", 0xC4: "ℴ", 0x106: "ℭ", 0x10B: "ℌ", 0x10C: "ℑ", 0x115: "ℜ",
    0x11D: "ℨ", 0x13A: "ℂ", 0x13F: "ℍ", 0x145: "ℕ", 0x147: "ℙ", 0x148: "ℚ", 0x149: "ℝ",
    0x151: "ℤ"}.items()}
VARIANT = re.compile(r'<(m[ion]|mtext) mathvariant="([a-z-]+)">([^<]*)</\1>')
# ln, log and max keep a thin space from what stands beside them; KaTeX's is in its style sheet
NAMED = "(?:<mrow>)?<mi>[a-z]{2,}</mi><mo>\u2061</mo>"
BEFORE = re.compile(rf"</m(?!o>)\w+>(?=(?:<m(?:su[bp]|under)>)?{NAMED})")
SCRIPTED = re.compile(rf"<m(su[bp]|under)>{NAMED}</mrow>(?:<m[in]>[^<]*</m[in]>|"
                      r"<mrow>(?:(?!<mrow).)*?</mrow>)</m\1>(?!<mo|<mrow><mo|</|$)")
AFTER = re.compile(r"<mo>\u2061</mo>(?!<mo|<mrow><mo|</|<mspace)")
UPRIGHT = re.compile(r'(?:<mi mathvariant="normal">[A-Za-z]</mi>){2,}')
THIN = r'\g<0><mspace width="0.17em"/>'
TABLE = re.compile(r'<mtable([^>]*?) columnalign="([a-z ]+)"([^>]*)>')


class FormulaError(ValueError):
    """KaTeX cannot read a formula."""


class Maker:
    """Formulas to MathML, each only once."""

    def __init__(self):
        self.known, self.engine = {}, None

    def __call__(self, tex, display):
        return self.all([(tex, display)])[0]

    def all(self, pairs):
        """The MathML of many (TeX, display) at once: a call of the engine costs more than KaTeX."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        for (tex, display), (wrong, made) in zip(new, self.katex(new) if new else []):
            if wrong:
                raise FormulaError(f"{tex}: {wrong}")
            self.known[tex, display] = core(made, tex)
        return [self.known[pair] for pair in pairs]

    def katex(self, pairs):
        """KaTeX's [(what is wrong, its MathML)] of each formula."""
        if self.engine is None:
            import sphinxcontrib.katex
            from py_mini_racer import MiniRacer
            self.engine = MiniRacer()
            script = Path(sphinxcontrib.katex.__file__).with_name("katex.min.js")
            self.engine.eval(script.read_text(encoding="utf-8"))
            self.engine.eval("""
                function make([tex, display]) {
                  try { return ["", katex.renderToString(tex, {output: "mathml", strict: "ignore",
                                displayMode: display, throwOnError: true})] }
                  catch (error) { return [error.message, ""] } }""")
        return json.loads(self.engine.eval(f"JSON.stringify({json.dumps(pairs)}.map(make))"))


def core(made, tex):
    """KaTeX's MathML as browsers read it."""
    math = re.search(r"<math.*</math>", made, re.S)[0]
    math = re.sub(r"<annotation.*?</annotation>", "", math, flags=re.S)
    math = math.replace("<semantics>", "").replace("</semantics>", "")
    math = VARIANT.sub(letters, math)
    while table := TABLE.search(math):
        end = closing(math, table.end())
        math = (math[:table.start()] + f"<mtable{table[1]}{table[3]}>"
                + aligned(math[table.end():end], table[2].split()) + math[end:])
    math = UPRIGHT.sub(lambda m: f"<mi>{re.sub('<.*?>', '', m[0])}</mi>", math)
    for place in (BEFORE, SCRIPTED, AFTER):
        math = place.sub(THIN, math)
    math = re.sub(r'(<mt\w+) width="(\d+%)"', r'\1 style="width:\2"', math)
    return math.replace("<math ", f'<math alttext="{html.escape(tex)}" ', 1)


def letters(match):
    """`<mi mathvariant="bold">W</mi>` as the character that is a bold W."""
    tag, variant, text = match.groups()
    if variant == "normal":
        return match[0] if tag == "mi" else f"<{tag}>{text}</{tag}>"
    if text.startswith("&"):
        text = html.unescape(text)
    return f"<{tag}>{''.join(letter(c, variant) for c in text)}</{tag}>"


def letter(c, variant):
    upper, lower, digit = BLOCKS.get(variant, (None, None, None))
    start, first = ((upper, "A") if "A" <= c <= "Z" else (lower, "a") if "a" <= c <= "z" else
                    (digit, "0") if "0" <= c <= "9" else (None, ""))
    if start is None and variant in GREEK:
        start, first = ((GREEK[variant][0], "Α") if "Α" <= c <= "Ω" else
                        (GREEK[variant][1], "α") if "α" <= c <= "ω" else (None, ""))
    if start is None:
        return html.escape(c)
    made = chr(start + ord(c) - ord(first))
    return OLDER.get(made, made)


def closing(math, start):
    """Where the table that began before `start` ends."""
    depth = 1
    for tag in re.finditer(r"<(/?)mtable\b", math[start:]):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return start + tag.start()
    raise FormulaError("a table of KaTeX's does not end")


def aligned(rows, columns):
    """The cells of a table aligned as their columns; tables within tables have had theirs."""
    parts, column, depth = [], 0, 0
    for piece in re.split(r"(<mtd[^>]*>|<mtr[^>]*>|</?mtable[^>]*>)", rows):
        depth += piece.startswith("<mtable") - piece.startswith("</mtable")
        if depth == 0 and piece.startswith("<mtr"):
            column = 0
        if depth == 0 and piece.startswith("<mtd"):
            side = columns[column % len(columns)]
            piece = f'<mtd style="text-align:-webkit-{side};text-align:{side};padding-inline:0">'
            column += 1
        parts.append(piece)
    return "".join(parts)
