"""Sphinx's settings for the book; `python -m days book` runs Sphinx with this folder as its -c."""

import hashlib
import re
from pathlib import Path

from days.tools.book.formula import FormulaError, Maker

HERE = Path(__file__).resolve().parent

project = "A language model in sixty-four days"
html_title = project
author = copyright = ""
language = "en"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_allow_space = True
myst_dmath_double_inline = True
myst_links_external_new_tab = False
smartquotes = False
html_theme = "furo"
html_static_path = [str(HERE / "static")]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"priority": 600})]
html_show_sphinx = html_show_copyright = html_copy_source = html_show_sourcelink = False
html_permalinks_icon = "#"
html_math_renderer = "mathml"
html_domain_indices = html_use_index = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
INK = {"serif": '"Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif',
       "mono": 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'}
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {                    # the colours of the interactive pages
        "font-stack": INK["serif"], "font-stack--headings": INK["serif"],
        "font-stack--monospace": INK["mono"],
        "color-background-primary": "#fffdf8", "color-background-secondary": "#f8f5ec",
        "color-background-border": "#dcd7ca", "color-foreground-primary": "#23211d",
        "color-foreground-secondary": "#68645a", "color-foreground-muted": "#6f6a5f",
        "color-brand-primary": "#1d5c9e", "color-brand-content": "#1d5c9e",
        "color-brand-visited": "#1d5c9e", "color-code-background": "#f5f1e6",
        "color-highlight-on-target": "#fdf0c4"},
    "dark_css_variables": {
        "color-background-primary": "#171613", "color-background-secondary": "#1d1b17",
        "color-background-border": "#3b382f", "color-foreground-primary": "#e9e5db",
        "color-foreground-secondary": "#a8a294", "color-foreground-muted": "#a8a294",
        "color-brand-primary": "#85b6ee", "color-brand-content": "#85b6ee",
        "color-brand-visited": "#85b6ee", "color-code-background": "#201f1b",
        "color-highlight-on-target": "#4a4020"},
}

make = Maker()


def formula(translator, node, display):
    """Write one formula as MathML; one that cannot be read is a warning with its place."""
    from docutils import nodes
    from sphinx.util import logging
    tex = node.astext().strip()
    try:
        made = make(tex, display)
    except FormulaError as error:
        logging.getLogger("book").warning("formula %s", error, location=node)
        made = f'<code class="formula-error">{translator.encode(tex)}</code>'
    if mark := node.get("mark"):
        made = f'<span style="white-space:nowrap">{made}{mark}</span>'
    translator.body.append(f'<div class="formula">{made}</div>' if display else made)
    raise nodes.SkipNode


def keep_marks(app, doctree, name):
    """A comma goes with the formula before it: browsers would begin a line with it."""
    from docutils import nodes
    for node in list(doctree.findall(nodes.math)):
        place = node.parent.index(node) + 1
        after = node.parent[place] if place < len(node.parent) else None
        if isinstance(after, nodes.Text) and (mark := re.match(r"[,.;:!?)\]]+", after)):
            node["mark"] = mark[0]
            node.parent[place] = nodes.Text(after[mark.end():])


def setup(app):
    made_by = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(HERE.glob("*.py"))))
    app.add_config_value("made_by", made_by.hexdigest(), "html")    # changed: set all pages anew
    app.add_html_math_renderer("mathml", (lambda t, n: formula(t, n, False), None),
                               (lambda t, n: formula(t, n, True), None))
    app.connect("doctree-resolved", keep_marks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
