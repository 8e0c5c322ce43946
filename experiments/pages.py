"""Day 08 · Write the data of the interactive pages, from a real run on Shakespeare.

    python experiments/pages.py           refresh notes/interactive/{ngram,temperature}.html
    python experiments/pages.py --check   change nothing; exit 1 where a page is stale

Each page is a template that holds its own data, between `/* data */` and `/* end */`; the same
text gives the same bytes. The data are a text, some 240,000 characters, and what Python's models
say about another play. The page counts the runs itself, as `llm.models.counts` does, in a fraction
of a second. A table of counts from all 42 works would have to be pruned to its commonest contexts
to fit in 300 kB, and in those no smoothing matters; so here is less text, and every count of it.

What the pages share, their style and their model, comes from notes/interactive/src, by
`python -m days write`.
"""

import argparse
import json
import string
import sys
from pathlib import Path

import numpy as np

from days.harness import say, write_atomically
from llm.data.download import TextError
from llm.data.text import load
from llm.functions.probability import entropy
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer

FOLDER = Path(__file__).resolve().parent.parent / "notes" / "interactive"
ORDER = 5
STRENGTHS = {"add-k": {"k": 0.02}, "interpolated": {"alpha": 50.0},
             "absolute": {"discount": 0.75}, "kneser-ney": {}}    # as in the table of day 06
COUNTED = ("ROMEO AND JULIET\n", "THE TAMING OF THE SHREW\n")     # from … up to, in the text
UNSEEN = ("JULIUS CAESAR\n", "THE TRAGEDY OF KING LEAR\n")
NAMES = "Romeo and Juliet and the Sonnets", "Julius Caesar"
LEAD, PLACES = 32, 12     # characters before a real context; how many contexts


class Run:
    """The texts, their tokenizer (all 84 characters of day 01) and the Python models."""

    def __init__(self):
        text = load("shakespeare", say).text
        self.tokenizer = CharTokenizer.from_text(text)
        self.counted, self.unseen = (cut(text, *borders) for borders in (COUNTED, UNSEEN))

    def model(self, order, smoothing, **strength):
        """The model that a page must agree with."""
        return NGram.fit(self.tokenizer.encode(self.counted), order, self.tokenizer.vocab_size,
                         smoothing, **(strength or STRENGTHS[smoothing]))


def cut(text, first, after):
    """The part of `text` from one title up to another."""
    start = text.index(first)
    return text[start:text.index(after, start)]


def ngram(run):
    """The data of ngram.html: the text, and how each Python model scores the unseen play."""
    ids = run.tokenizer.encode(run.unseen)
    scores = [[round(float(-run.model(order, smoothing).log_probabilities(ids).mean()), 3)
               for smoothing in STRENGTHS] for order in range(1, ORDER + 1)]
    return {**source(run), "strengths": STRENGTHS, "unseen": NAMES[1], "scores": scores}


def temperature(run):
    """The data of temperature.html: the text, and real contexts of the unseen play."""
    return {**source(run), "unseen": NAMES[1], "places": places(run)}


def source(run):
    """What both pages hold."""
    return {"name": NAMES[0], "order": ORDER, "vocabulary": run.tokenizer.characters,
            "text": run.counted}


def places(run):
    """PLACES stretches of the unseen play, each with the character that follows, from sure to open.

    Drawn at random among those of letters within a line, sorted by the model's entropy, and taken
    at equal steps through that list.
    """
    rng = np.random.default_rng(8)
    model, found = run.model(ORDER, "kneser-ney"), []
    while len(found) < 40 * PLACES:
        at = int(rng.integers(LEAD, len(run.unseen)))
        lead = run.unseen[at - LEAD:at]
        if lead.replace(" ", "").replace(",", "").isalpha():
            surprise = float(entropy(model.distribution(run.tokenizer.encode(lead))))
            whole = lead.lstrip(string.ascii_letters + ",").lstrip()    # begin with a whole word
            found.append((surprise, whole, run.unseen[at]))
    found.sort()
    return [[lead, following] for _, lead, following in found[20::40]]


def fill(page, name, body):
    """`page` with what stands between /* name */ and its end replaced by `body`."""
    begin, end = markers(name)
    head, rest = page.split(begin)
    return f"{head}{begin}{body}{end}{rest.split(end)[1]}"


def markers(name):
    """The comments around one part of a page."""
    return f"/* {name} */", "/* end */" if name == "data" else f"/* end {name} */"


def part(page, name):
    """What stands between the markers."""
    begin, end = markers(name)
    return page.split(begin)[1].split(end)[0]


def as_json(data):
    """An entry a line. The text has no "<", so nothing in it can end the script."""
    return "\n{" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}"
                              for key, value in data.items()) + "}\n"


def fresh(run):
    """{path: text} of the pages as they should be."""
    first, second = FOLDER / "ngram.html", FOLDER / "temperature.html"
    counting = fill(first.read_text(encoding="utf-8"), "data", as_json(ngram(run)))
    drawing = fill(second.read_text(encoding="utf-8"), "data", as_json(temperature(run)))
    return {first: counting, second: drawing}


def main(make=lambda: fresh(Run()), about=__doc__):
    """Write the pages that `make` returns as {path: text}, or only compare them."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where a page is stale")
    check = parser.parse_args().check
    try:
        pages = make()
    except TextError as error:
        say(f"pages: {error}")
        sys.exit(2)
    stale = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    for path, text in pages.items():
        if path in stale and not check:
            write_atomically(path, text.encode())
        change = "as it was" if path not in stale else "stale" if check else "written"
        say(f"{path.name}: {change}, {len(text.encode()) / 1000:.0f} kB")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
