"""Every link of the built book: does its page exist, and on that page its anchor?"""

import html
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

REFERENCE = re.compile(r'<(?P<tag>\w+)\b[^>]*?\s(?:href|src)="(?P<url>[^"]*)"')
ANCHOR = re.compile(r'\s(?:id|name)="([^"]*)"')
LOADED = {"script", "img", "link", "iframe", "source"}       # fetched without a click


def faults(folder):
    """What is wrong, a line each: links that lead nowhere, and pages that ask another host."""
    folder = Path(folder).resolve()
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    anchors = {path: set(map(html.unescape, ANCHOR.findall(text))) for path, text in pages.items()}
    there = {path for path in folder.rglob("*") if path.is_file()}
    for page, text in pages.items():
        for tag, url in sorted({(m["tag"], m["url"]) for m in REFERENCE.finditer(text)}):
            wrong = fault(page, tag, html.unescape(url), anchors, there)
            if wrong:
                yield f"{page.relative_to(folder).as_posix()}: {url} {wrong}"


def fault(page, tag, url, anchors, there):
    """What is wrong with one link, or None."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "mailto"):
        return None
    if parts.scheme or parts.netloc:
        return "is loaded from another host" if tag in LOADED and tag != "link" else None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target not in there:
        return "leads to no file"
    anchor = unquote(parts.fragment)
    if anchor and anchor not in anchors.get(target, ()):
        return "has no such anchor on its page"
    return None
