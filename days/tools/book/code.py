"""The page of one file: what it is, what is in it, and its text, highlighted line by line."""

import ast
import functools
import html
import re

from days.tools.book.places import relative
from days.tools.data import course, ownership

DOCSTRING = re.compile(r'^[rR]?"""(?:Day \d\d · )?')


def page(path, text, shelf, owner):
    """(Markdown, HTML of the listing) of the page code/<path>."""
    where = f"code/{path}.md"
    head = [f"---\norphan: true\n---\n\n# {path}\n", f"{caption(text, path)}\n"]
    links = []
    if owner != ownership.FRAME and owner in shelf.days:
        note = relative(where, f"days/day{owner:02d}/index.html")
        links.append(f'Part of <a href="{note}">day {owner:02d}, {course.DAYS[owner].title}</a>.')
    elif owner == ownership.FRAME:
        links.append("Part of the frame, the same on every day.")
    test = course.test_file(owner) if owner else ""
    if path.startswith("llm/") and test in shelf.code:
        links.append(f'Tested by <a href="{relative(where, f"code/{test}.html")}">{test}</a>.')
    head.append(" ".join(links) + "\n")
    head += contents(path, text)
    # the empty first line of the directive's body would be lost: the listing is a file beside it
    head.append(f"```{{raw}} html\n:file: {path.rsplit('/', 1)[-1]}.listing\n```\n")
    return "\n".join(head), listing(path, text)


def caption(text, path):
    """The first sentence of a file's docstring or comment, for a line in a table."""
    first = text.lstrip().split("\n", 1)[0]
    if path.endswith(".py"):
        found = re.match(r'[rR]?"""(?:Day \d\d · )?(.*?)(?:"""|$)', first)
        return escape(found[1]) if found else ""
    return escape(first.lstrip("# ")) if first.startswith("# ") else ""


def escape(text):
    """Text that Markdown is to leave alone."""
    return re.sub(r"([\\`*_\[\]$<>{}|])", r"\\\1", text)


def contents(path, text):
    """The functions and classes at the top of a Python file, each linked to its line."""
    if not path.endswith(".py") or path.endswith("mistakes.py"):
        return []
    rows = []
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        said = (ast.get_docstring(node) or "").split("\n")[0]
        if said and not node.name.startswith("_"):
            rows.append(f'- <a href="#L-{node.lineno}"><code>{html.escape(node.name)}</code></a> '
                        f"{escape(said)}")
    return [*rows, ""] if len(rows) > 1 else []


def listing(path, text):
    """The text with a number, and an anchor L-33, before each line."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    lexer = lexer_of(path.rpartition("/")[2].rpartition(".")[2])
    form = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True, linespans="line",
                         cssclass="highlight listing")
    return highlight(text, lexer, form)


@functools.cache
def lexer_of(ending):
    """Pygments' lexer for py, toml, yml, css, js, Makefile, run; plain text for all else.

    Its own search by file name tries a thousand patterns, which takes longer than the rest.
    """
    from pygments.lexers import get_lexer_by_name
    name = {"py": "python", "run": "bash", "Makefile": "make", "yml": "yaml"}.get(ending, ending)
    known = name if name in ("python", "bash", "make", "yaml", "toml", "css", "js") else "text"
    return get_lexer_by_name(known, stripnl=False)
