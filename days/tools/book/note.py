"""A note of the course as MyST Markdown: the words stay, the links and fragments find the book.

Markers (<!--=…-->2.3<!--/-->) lose their comments and keep their value; a fragment of code gets a
line that says from where it is, with a link to that very line; a link to an interactive page is
followed by the page itself; a folded answer is set so that its formulas are seen as formulas.
"""

import html
import re

from days.tools.book.places import relative
from days.tools.data.generated import FENCE

COMMENT = re.compile(r"<!--.*?-->", re.S)
# code and formulas come first, so that nothing inside them is taken for a link or a comment
PIECE = re.compile(r"(?P<keep>(?P<t>`+)(?!`).+?(?<!`)(?P=t)(?!`)|\$\$.+?\$\$|\$[^$\n]+\$)"
                   r"|(?P<comment><!--.*?-->)"
                   r"|(?P<image>!?)\[(?P<said>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<url>[^()\s]+)\)",
                   re.S)
FOLDED = re.compile(r"^(?P<before>[^\n]*?)<details><summary>(?P<name>.*?)</summary>"
                    r"(?P<text>[^\n]*)$", re.M)
CLOSED = re.compile(r"^(?P<indent> *)(?P<text>[^\n]*\S[^\n]*?)</details>[ ]*$", re.M)
ITEM = re.compile(r"\s*(?:[-*]|\d+\.)?\s*")


def convert(text, shelf, page, file):
    """The Markdown of `file` for the book's `page`."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [prose(text[end:fence.start()], shelf, page, file), code(fence, shelf, page)]
        end = fence.end()
    return "".join(parts) + prose(text[end:], shelf, page, file)


def prose(text, shelf, page, file):
    """Links, images, comments and folded answers of a stretch without fences."""
    plays = []

    def piece(match):
        if match["keep"]:
            return match["keep"]
        if match["comment"]:
            return ""
        said, url = match["said"], shelf.link(page, file, match["url"])
        if match["image"]:
            return f"![{said}]({match['url'] if url is None else url})"
        if "notes/interactive/" in match["url"] and page.startswith("days/"):
            plays.append(url)
        said = PIECE.sub(piece, said)
        if url is None:                             # a day that is not in this book
            return said
        if re.match(r"[a-z]+:", url):
            return f"[{said}]({url})"
        return f'<a href="{html.escape(url)}">{said}</a>'

    text = unfold(PIECE.sub(piece, text))
    for url in plays:
        link = re.search(rf'^.*<a href="{re.escape(url)}">.*$', text, re.M)
        text = text[:link.end()] + "\n\n" + player(url) + text[link.end():]
    return text




def unfold(text):
    """`<details><summary>Answer</summary>text</details>` on lines of their own, text set free."""
    def opened(match):
        before = match["before"]
        indent = " " * len(ITEM.match(before)[0])
        lead = before.rstrip() + "\n\n" if before.strip() else ""
        rest = f"\n\n{indent}{match['text'].strip()}" if match["text"].strip() else ""
        return f"{lead}{indent}<details><summary>{match['name']}</summary>{rest}"

    text = FOLDED.sub(opened, text)
    return CLOSED.sub(r"\g<indent>\g<text>\n\n\g<indent></details>", text)


def code(fence, shelf, page):
    """A fence as it stands; one that names a file, with a link to its lines there."""
    language, _, path = fence[2].strip().partition(" ")
    source = shelf.source(path) if path else None
    body = f"{fence[1]}{language or 'text'}\n{fence[3]}{fence[1]}"
    if source is None:
        return body
    first = lines_before((shelf.root / path).read_text(encoding="utf-8"), fence[3])
    last = first + fence[3].rstrip("\n").count("\n")
    url = relative(page, source[:-3] + ".html")
    return (f'<p class="from"><a href="{url}#L-{first}">{path}</a>'
            f"<span>lines {first}–{last}</span></p>\n\n{body}")


def lines_before(text, fragment):
    """The number of the line where a fragment begins; 1 where it is not found."""
    at = text.find(fragment)
    return text.count("\n", 0, max(at, 0)) + 1


def player(url):
    """An interactive page inside a note."""
    return (f'<div class="play"><iframe src="{url}" loading="lazy" title="A page to play with">'
            f'</iframe><p><a href="{url}">Open it alone</a></p></div>\n')


def headline(text):
    """The first heading of a note."""
    return re.search(r"^# (.+)$", text, re.M)[1].strip()


def question(text):
    """What a day asks: the first paragraph under its Question, without markers."""
    found = re.search(r"^## Question\s+(.+?)(?:\n\s*\n|\Z)", text, re.M | re.S)
    return " ".join(COMMENT.sub("", found[1]).split()) if found else ""
