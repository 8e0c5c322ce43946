"""What the interactive pages share, from one source: notes/interactive/src/, built into each.

A page stands alone: it holds its own copy, between `/* style */` and `/* end style */` for
src/style.css, and so on. Change the source, then run `python -m days write`.
"""

FOLDER = "notes/interactive"
SOURCES = {"style": "style.css", "element": "element.js", "drawing": "drawing.js",
           "model": "model.js"}


def pages(root):
    """The pages to play with."""
    return sorted((root / FOLDER).glob("*.html"))


def fresh(text, root):
    """The text of a page with each part that it shares as its source says."""
    for name, file in SOURCES.items():
        begin, end = f"/* {name} */\n", f"/* end {name} */"
        if begin not in text:
            continue
        head, rest = text.split(begin)
        if end not in rest:
            raise ValueError(f"has no {end}")
        body = (root / FOLDER / "src" / file).read_text(encoding="utf-8")
        text = f"{head}{begin}{body}{end}{rest.split(end, 1)[1]}"
    return text


def faults(root):
    """One line for each page whose copy differs, and for each that lacks the style."""
    for path in pages(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if "/* style */\n" not in text:
            yield f"{name}: has no part /* style */ of {FOLDER}/src"
        try:
            if fresh(text, root) != text:
                yield f"{name}: is not built from {FOLDER}/src; run `python -m days write`"
        except (OSError, ValueError) as error:
            yield f"{name}: {error}"
