"""Where each file of the course stands in the book, and how a link finds its way there.

    days/day06/README.md       days/day06/index.html       the note of a day
    notes/glossary.md          notes/glossary.html
    README.md                  guide.html                  the front page is made from it, too
    llm/models/ngram.py        code/llm/models/ngram.py.html     text, highlighted line by line
    days/day06/figure.svg      days/day06/figure.svg       all else is copied
"""

import functools
import posixpath
import re
from dataclasses import dataclass, field

from days.tools.data import course, ownership

TEXT = re.compile(r"\.(py|txt|toml|ya?ml|css|js)$"
                  r"|(^|/)(LICENSE|Makefile|run|\.gitignore|\.gitattributes)$")
NOTE = re.compile(r"days/day(\d\d)/(README\.md)?$")


@dataclass
class Shelf:
    """The files of the course, their owners, and the days that this book has."""

    root: object
    owners: dict
    days: list                              # with a note, in order
    wanted: set = field(default_factory=set)    # files a note refers to, to be copied

    @classmethod
    def of(cls, root, chosen=None):
        days = [n for n in course.DAYS if course.written(root, n) and (not chosen or n in chosen)]
        return cls(root, ownership.owners_of(root), days)

    @functools.cached_property
    def code(self):
        """The text files that get a page, with their place; of some days, only what they own."""
        whole = len(self.days) == sum(course.written(self.root, n) for n in course.DAYS)
        days = {ownership.FRAME, *(course.DAYS if whole else self.days)}
        return {path: f"code/{path}.md" for path, owner in self.owners.items()
                if owner in days and TEXT.search(path)}

    @functools.cached_property
    def sheets(self):
        """The Markdown files beside the notes: notes/glossary.md, days/day52/kernels.md."""
        return [path for path, owner in self.owners.items() if path.endswith(".md")
                and path != "README.md" and not NOTE.match(path)
                and owner in {ownership.FRAME, *self.days}]

    def source(self, path):
        """The Markdown page (from the top of the book) that shows a file; None: it has none."""
        note = NOTE.match(path)
        if note:
            return f"{path[:10]}/index.md" if int(note[1]) in self.days else None
        if path in ("llm", "llm/", "tests/", "days/", "experiments/"):
            return "code/index.md"
        if path == "README.md":
            return "guide.md"
        if path.endswith(".md"):
            return path if path in self.sheets else None
        return self.code.get(path)

    def link(self, page, file, url):
        """A link of the Markdown `file`, as it should stand on the book's `page`; None: no target.

        `page` and `file` are paths from their tops: days/day06/index.md and days/day06/README.md.
        """
        if re.match(r"[a-z]+:|//", url):
            return url
        path, hash_, anchor = url.partition("#")
        if not path:
            return url
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        path += "/" * (NOTE.match(path + "/") is not None)
        source = self.source(path)
        if source is None and (self.root / path).is_file() and not path.endswith(".md"):
            self.wanted.add(path)
            source = path
        if source is None:
            return None
        target = source[:-3] + ".html" if source.endswith(".md") else source
        return relative(page, target) + hash_ + anchor


def relative(page, target):
    """The path from one page of the book to another."""
    return posixpath.relpath(target, posixpath.dirname(page) or ".")
