"""Day 64 · The book: built once from two days, then read in a browser; all notes checked unbuilt.

Skipped, with the reason, where requirements-book.txt is not installed or there is no browser.
"""

import re
import subprocess
import sys

import pytest

from days.harness import UsageError
from days.tools.book import code, links, note, places, spiral
from days.tools.data import course, hours

DAYS = [6, 8]
PACKAGES = ["sphinx", "myst_parser", "furo", "sphinxcontrib.katex", "py_mini_racer", "ziamath",
            "fontTools"]
ROOT = course.ROOT


def packages():
    for name in PACKAGES:
        pytest.importorskip(name, reason="the book needs pip install -r requirements-book.txt")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of a book of two days."""
    packages()
    from days.tools.book import build
    folder = tmp_path_factory.mktemp("book")
    assert build.build(ROOT, folder / "book", set(DAYS), folder / "work") == 0
    return folder / "book"


@pytest.fixture
def read(book, browser):
    """Open a page of the book, on a screen of this width; nothing may be logged, ever."""
    def open_page(name, width=1300, scheme="light"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.get((book / name).as_uri())
        return browser
    yield open_page
    assert browser.get_log("browser") == []


PAGES = ["index.html", "guide.html", "spiral.html", "days/day06/index.html",
         "days/day08/index.html", "notes/mathematics.html", "notes/glossary.html",
         "code/llm/models/ngram.py.html", "code/index.html"]


# --- a note becomes a page


def shelf(days=DAYS):
    return places.Shelf.of(ROOT, set(days))


def test_a_marker_keeps_its_value_and_loses_its_comments():
    text = "From <!--=a:.2f-->0.44<!--/--> to `<!--=b-->2<!--/-->`."
    assert note.convert(text, shelf(), "guide.md", "README.md") == (
        "From 0.44 to `<!--=b-->2<!--/-->`.")


def test_links_find_their_page_and_a_day_that_is_not_there_is_plain_text():
    text = ("[a](../day08/README.md#derive) [b](../day07/README.md) [c](https://x.org/y) "
            "[d](run.py) [e](../../notes/notation.md) $[a](b)$ `[a](b)`")
    assert note.convert(text, shelf(), "days/day06/index.md", "days/day06/README.md") == (
        '<a href="../day08/index.html#derive">a</a> b [c](https://x.org/y) '
        '<a href="../../code/days/day06/run.py.html">d</a> '
        '<a href="../../notes/notation.html">e</a> $[a](b)$ `[a](b)`')


def test_a_page_of_a_day_that_is_not_there_is_plain_text():
    text = "[the minute](notes/minute.md) and [a guide](notes/guide.md)"       # of day 38; no day's
    assert note.convert(text, shelf(), "guide.md", "README.md") == (
        'the minute and <a href="notes/guide.html">a guide</a>')


def test_a_fragment_links_to_its_first_line():
    line = (ROOT / "llm/models/ngram.py").read_text(encoding="utf-8").split("\n")[9:11]
    text = "```python llm/models/ngram.py\n" + "\n".join(line) + "\n```\n"
    made = note.convert(text, shelf(), "days/day06/index.md", "days/day06/README.md")
    assert 'href="../../code/llm/models/ngram.py.html#L-10"' in made and "lines 10–11" in made
    assert made.endswith("\n\n```python\n" + "\n".join(line) + "\n```\n")


def test_a_folded_answer_is_set_free_from_its_tag():
    text = "1. *Think.* Why? <details><summary>Answer</summary>As $a<b$.</details>"
    assert note.unfold(text) == ("1. *Think.* Why?\n\n   <details><summary>Answer</summary>\n\n"
                                 "   As $a<b$.\n\n   </details>")


def test_the_listing_of_a_file_numbers_each_line():
    packages()
    made = code.listing("a.py", "\nx = 1\n\ny = '<$>'\n")
    assert re.findall(r'id="(L-\d+)"', made) == ["L-1", "L-2", "L-3", "L-4"]
    assert "&lt;$&gt;" in made


def test_the_link_checker_names_each_fault(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"></a><a href="b.html#gone"></a><a href="c.html"></a><a href="#no">'
        '</a><a href="https://x.org"></a><script src="https://x.org/y.js"></script>', "utf-8")
    assert list(links.faults(tmp_path)) == [
        "a.html: #no has no such anchor on its page",
        "a.html: b.html#gone has no such anchor on its page", "a.html: c.html leads to no file",
        "a.html: https://x.org/y.js is loaded from another host"]


def test_a_missing_package_is_one_line_with_the_cure(monkeypatch):
    from days.tools.book import build
    monkeypatch.setitem(build.NEEDS, "nowhere.at_all", "nowhere")
    with pytest.raises(UsageError, match=r"nowhere.*pip install -r requirements-book.txt"):
        build.need()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, monkeypatch):
    from days.tools.book import build
    monkeypatch.setattr(build, "need", lambda: None)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="--out"):
        build.build(ROOT, tmp_path, {6})


def test_a_page_to_play_with_leads_back_to_the_books_notes_out_of_its_frame():
    from days.tools.book import front
    text = '<a href="../../days/day06/README.md">x</a><a href="../../days/day07/README.md">y</a>'
    assert front.at_home(text, shelf()) == (
        '<a href="../../days/day06/index.html" target="_top">x</a>'
        '<a href="../../index.html" target="_top">y</a>')


# --- the spiral: links forward, and the graph


ASKS = {4: "## Question\n\nBuilds on: nothing.\n",
        5: "## Question\n\nDay 9 (x). Builds on day 04 (speed, `fit`) and [part 4 (b)](m.md).\n",
        7: "## Question\n\n*Builds on: days 4 and\n5 (counting), 6 (gone), on day 5 (later).*\n",
        9: "## Question\n\nBuilds on days 04, 05 and 7 (loss).\n\n## Derive\n\nday 4 (else)\n"}


def test_what_a_later_day_needs_stands_in_its_question_and_a_missing_day_does_not_count():
    assert spiral.edges(ASKS) == {
        (4, 5): "speed, `fit`", (4, 7): "counting", (5, 7): "counting",
        (4, 9): "loss", (5, 9): "loss", (7, 9): "loss"}


def test_the_picture_draws_what_no_chain_implies():
    assert spiral.nearest(spiral.edges(ASKS)) == {(4, 5), (5, 7), (7, 9)}
    assert spiral.nearest({(1, 3), (2, 3), (3, 4), (1, 9), (4, 9), (8, 9)}) == {
        (1, 3), (2, 3), (3, 4), (4, 9), (8, 9)}


def test_a_day_names_where_it_returns_and_a_day_that_does_not_has_no_such_heading():
    pairs = spiral.edges(ASKS)
    assert '<a href="../day07/index.html">07 Entropy, cross-entropy, perplexity</a> counting' in (
        spiral.returns(5, pairs, ""))
    assert spiral.returns(9, pairs, "- **a** ([day 07](x)). b\n") == ""
    only = spiral.returns(9, pairs, "- **a (b)** ([day 09](x)). c\n")
    assert 'href="../../notes/glossary.html#word-a-b-09">a (b)</a>' in only
    assert "returns" not in only


# --- all notes, without building them


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """(folder of Markdown pages, shelf) of the whole book, as Sphinx would find them."""
    packages()
    from days.tools.book import build
    whole, work = places.Shelf.of(ROOT), tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:         # lines are counted, not coloured
        patch.setattr(code, "listing", lambda path, text: "".join(
            f'<a id="L-{n + 1}">' for n in range(text.count("\n"))))
        patch.setattr(code, "contents", lambda path, text: [])
        patch.setattr(build, "font", lambda cache, target: None)
        build.lay_out(whole, work)
    return work


@pytest.fixture(scope="module")
def parsed(laid):
    """{page: tokens of markdown-it} for the notes and the front pages."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True)
    source = laid / "source"
    return {path.relative_to(source).as_posix(): reader.parse(path.read_text(encoding="utf-8"))
            for path in source.rglob("*.md") if path.relative_to(source).parts[0] != "code"}


def inline(tokens, kind):
    """The contents of all tokens of a kind, in paragraphs and outside."""
    for token in tokens:
        for part in [token, *(token.children or [])]:
            if part.type == kind:
                yield part.content


def test_every_day_with_a_note_is_in_the_whole_book(parsed):
    written = [n for n in course.DAYS if course.written(ROOT, n)]
    assert [f"days/day{n:02d}/index.md" for n in written] == sorted(
        page for page in parsed if page.startswith("days/") and page.endswith("/index.md"))
    front = "".join(inline(parsed["index.md"], "html_inline"))
    assert all(f"days/day{n:02d}/index.html" in front for n in written)


def test_katex_reads_every_formula_of_every_note(parsed):
    from days.tools.book.formula import Maker
    found = [(tex.strip(), kind != "math_inline") for tokens in parsed.values()
             for kind in ("math_inline", "math_inline_double", "math_block")
             for tex in inline(tokens, kind)]
    made = Maker().all(found)                           # a FormulaError names what is wrong
    assert len(found) > 1000 and all(one.startswith("<math ") for one in made)
    assert not re.search('mathvariant="(?!normal)', "".join(made))


def test_a_formula_that_katex_cannot_read_is_an_error_with_its_text():
    packages()
    from days.tools.book.formula import FormulaError, Maker
    with pytest.raises(FormulaError, match="nonsense"):
        Maker()(r"\nonsense{x}", False)


def test_mathml_is_what_browsers_read_today():
    packages()
    from days.tools.book.formula import Maker
    make = Maker()
    assert "<mi>𝐖</mi>" in make(r"\mathbf W", False) and "<mi>ℝ</mi>" in make(r"\mathbb R", False)
    assert "<mi>softmax</mi>" in make(r"\mathrm{softmax}", False)
    space = '<mspace width="0.17em"/>'
    assert f"</msub>{space}<mi>ln</mi><mo>\u2061</mo>{space}<mi>D" in make(r"n_1\ln D", False)
    assert "<mo>\u2061</mo><mo" in make(r"\ln(x)", False)
    rows = make(r"\begin{aligned}a&=b\\c&=d\end{aligned}", True)
    assert re.findall(r"text-align:(\w+)", rows) == ["right", "left"] * 2


def test_no_dollar_of_a_formula_is_left_in_the_words(parsed):
    assert [(page, text) for page, tokens in parsed.items() for kind in ("text", "html_block")
            for text in inline(tokens, kind) if "$" in text] == []


def test_every_link_of_the_whole_book_has_its_page_and_its_line(laid):
    source, faults = laid / "source", []
    for page in source.rglob("*.md"):
        for url in re.findall(r'(?:href|src)="([^"#]*(?:#L-\d+)?)', page.read_text("utf-8")):
            path, _, line = url.partition("#L-")
            if not path or ":" in path:
                continue
            target = (page.parent / path).resolve()
            made = target.with_suffix(".md")            # all else is copied from extra
            extra = laid / "extra" / target.relative_to(source)
            if not (made.is_file() or extra.is_file()):
                faults.append(f"{page.relative_to(source)}: {url}")
            elif line and f'id="L-{line}"' not in made.with_suffix(".listing").read_text("utf-8"):
                faults.append(f"{page.relative_to(source)}: no line {line} in {path}")
    assert faults == []


def test_each_link_back_has_its_link_forward_on_the_page_in_the_graph_and_in_words(laid):
    pages = {path.parent.name: path.read_text("utf-8")
             for path in (laid / "source/days").glob("*/index.md")}
    graph = (laid / "source/spiral.md").read_text("utf-8")
    pairs = [(a, b) for b in course.DAYS if course.written(ROOT, b)
             for a in hours.builds_on(hours.note(ROOT, b)) if course.written(ROOT, a)]
    assert len(pairs) > 300 and graph.count("<path") == len(pairs) and f" {len(pairs)} " in graph
    assert graph.count('<li class="day') == len(pages)
    words = graph.partition("## The same in words")[2]
    for a, b in pairs:
        forward = pages[f"day{a:02d}"].partition("\n## Where this returns\n")[2].split("\n## ")[0]
        assert f'<a href="../day{b:02d}/index.html">{b:02d} ' in forward, (a, b)
        assert re.search(rf'<path class="(near|far) hue\d+ of{a} of{b}"', graph), (a, b)
        back, _, on = re.search(rf">{b:02d} [^\n]*", words)[0].partition("; returns on ")
        assert f"day{a:02d}/index.html" in back and f"day{b:02d}/" in re.search(
            rf">{a:02d} [^\n]*; returns on ([^\n]*)", words)[1], (a, b)


def test_each_word_of_the_glossary_has_one_anchor_and_its_day_links_to_it(laid):
    glossary = (laid / "source/notes/glossary.md").read_text("utf-8")
    entries = re.findall(r'^- (?:<span id="([^"]+)"></span>)?\*\*.*?day(\d\d)/', glossary, re.M)
    assert len(entries) > 400 and len({at for at, _ in entries}) == len(entries)
    assert all(f'notes/glossary.html#{at}"' in (
        laid / f"source/days/day{day}/index.md").read_text("utf-8") for at, day in entries)


# --- the built book, in a browser, as files


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_only_from_the_book_and_fits_a_phone(read, book, page):
    driver = read(page, width=390)
    loaded = driver.execute_script("""
        return [...document.querySelectorAll("script[src], img, iframe, link[href]")].map(
            (part) => part.src || part.href).concat(
            performance.getEntriesByType("resource").map((entry) => entry.name))""")
    assert loaded and all(url.startswith((book.as_uri(), "data:")) for url in loaded)
    wide = driver.execute_script("return document.scrollingElement.scrollWidth")
    assert wide <= 390


def test_formulas_are_set_and_none_is_raw_or_wrong(read):
    driver = read("days/day06/index.html")
    assert driver.execute_script("return document.querySelectorAll('article math').length") > 60
    assert not driver.find_elements("css selector", ".formula-error, merror")
    alone = driver.execute_script("""
        return [...document.querySelectorAll('article math')].filter(math =>
            /^[,.;:]/.test(math.nextSibling?.textContent ?? "")
            && getComputedStyle(math.parentNode).whiteSpace != "nowrap").length""")
    assert alone == 0                                   # a comma would begin a line
    height = "return document.querySelector('.formula mfrac').getBoundingClientRect().height"
    assert driver.execute_script(height) > 25           # a numerator over its denominator
    raw = driver.execute_script("""
        for (const part of document.querySelectorAll('article :is(pre, code, math)')) part.remove();
        return document.querySelector('article').textContent""")
    assert "$" not in raw and "<!--" not in raw and "-->" not in raw
    assert driver.execute_script("return document.fonts.check('16px \"Book Math\"', '∑')")


def test_figures_answers_and_the_page_to_play_with_are_there(read):
    driver = read("days/day06/index.html")
    script = "return [...document.images].map((image) => [image.complete, image.naturalWidth])"
    assert all(done and width > 100 for done, width in driver.execute_script(script))
    answers = driver.find_elements("css selector", "article details")
    assert len(answers) == 2
    assert answers[0].get_property("open") is False
    press(driver, answers[0].find_element("css selector", "summary"))
    assert "2/85" in answers[0].text.replace("\n", "") and answers[0].find_elements("css selector",
                                                                                   "math")
    frame = driver.find_element("css selector", ".play iframe")
    driver.execute_script("arguments[0].scrollIntoView()", frame)
    driver.switch_to.frame(frame)
    wait(driver, lambda: driver.find_elements("css selector", "#bars li"))
    driver.switch_to.default_content()


def press(driver, element):
    """A click that does not wait for the page to have scrolled there."""
    driver.execute_script("arguments[0].click()", element)


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait
    return WebDriverWait(driver, 20).until(lambda _: condition())


def test_the_link_of_a_fragment_shows_its_lines(read):
    driver = read("days/day06/index.html")
    link = driver.find_element("css selector", ".from a")
    first = driver.find_element("css selector", ".from + div pre").text.split("\n")[0]
    press(driver, link)
    wait(driver, lambda: "#L-" in driver.current_url)
    target = driver.find_element("css selector", ".listing a:target")
    line = driver.execute_script("return arguments[0].parentNode.textContent", target)
    assert line.strip().endswith(first.strip())
    wait(driver, lambda: driver.execute_script(                    # it scrolls there smoothly
        "const top = arguments[0].getBoundingClientRect().top;"
        "return top >= 0 && top < innerHeight",
        target))


def test_search_works_from_the_keyboard_and_from_files(read):
    driver = read("days/day08/index.html")
    body = driver.find_element("css selector", "body")
    body.send_keys("/")
    box = driver.switch_to.active_element
    assert box.get_attribute("name") == "q"
    box.send_keys("Kneser\ue007")
    wait(driver, lambda: driver.find_elements("css selector", "#search-results li a"))
    found = [a.get_attribute("href") for a in
             driver.find_elements("css selector", "#search-results li a")]
    assert any("days/day06/index.html" in url for url in found)


def test_arrow_keys_turn_the_page(read):
    driver = read("days/day06/index.html")
    driver.find_element("css selector", "body").send_keys("\ue014")
    wait(driver, lambda: "day08" in driver.current_url)
    driver.find_element("css selector", "body").send_keys("\ue012")
    wait(driver, lambda: "day06" in driver.current_url)


def test_keys_reach_each_day_of_the_graph_and_open_it(read):
    driver = read("spiral.html")
    days = driver.find_elements("css selector", ".graph li > a")
    assert [a.text[:2] for a in days] == ["06", "08"]
    driver.execute_script("arguments[0].focus()", days[0])
    days[0].send_keys("\ue004")                          # Tab
    driver.switch_to.active_element.send_keys("\ue007")  # Enter
    wait(driver, lambda: "days/day08/index.html" in driver.current_url)


def test_a_day_with_the_focus_shows_all_of_its_arcs_and_no_other(book, browser, tmp_path):
    pairs = {(6, 7): "", (7, 8): "", (6, 8): ""}
    made = spiral.page([6, 7, 8], pairs)
    page = tmp_path / "graph.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="'
                    f'{(book / "_static/book.css").as_uri()}">{made}', encoding="utf-8")
    browser.get(page.as_uri())

    def seen():
        return [pair for pair in pairs if browser.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0])).opacity",
            "path.of{}.of{}".format(*pair)) == "1"]

    assert seen() == [(6, 7), (7, 8)]
    browser.find_element("css selector", "body").send_keys("\ue004")
    assert browser.switch_to.active_element.text.startswith("06") and seen() == [(6, 7), (6, 8)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_names_in_the_graph_are_readable(read, scheme):
    driver = read("spiral.html", scheme=scheme)
    shades = driver.execute_script("""
        const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        const rgb = (colour) => { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
            return "rgb(" + pen.getImageData(0, 0, 1, 1).data.slice(0, 3).join() + ")"; };
        const link = document.querySelector(".graph li > a");
        const shade = (n) => { link.parentNode.className = "hue" + n;
            return getComputedStyle(link).color; };
        return [getComputedStyle(document.body).backgroundColor,
            ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(shade)].map(rgb)""")
    paper, *inks = map(luminance, shades)
    assert len(set(shades)) == 13
    assert all((max(ink, paper) + .05) / (min(ink, paper) + .05) > 4.5 for ink in inks)


def luminance(colour):
    """Relative luminance of "rgb(r, g, b)". Source: WCAG 2.2."""
    c = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    c = [x / 12.92 if x <= .04045 else ((x + .055) / 1.055) ** 2.4 for x in c]
    return .2126 * c[0] + .7152 * c[1] + .0722 * c[2]


def test_dark_is_dark_and_readable(read):
    driver = read("days/day06/index.html", scheme="dark")
    look = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    paper = luminance(driver.execute_script(look, "body", "backgroundColor"))
    for part in ("article p", "article a", "article h2", "article pre", ".from span", "math"):
        ink = luminance(driver.execute_script(look, part, "color"))
        assert paper < .05 and (ink + .05) / (paper + .05) > 4.5, part


def test_every_link_of_the_built_book_resolves(book):
    assert list(links.faults(book)) == []


def test_days_that_are_not_there_are_named_on_the_front_page(book):
    text = (book / "index.html").read_text(encoding="utf-8")
    assert text.count("not in this book") == sum(course.written(ROOT, n) for n in course.DAYS) - 2


def test_the_command_says_what_it_made_and_a_bad_day_is_one_line():
    done = subprocess.run([sys.executable, "-m", "days", "book", "--days", "65"], cwd=ROOT,
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "1 to 64" in done.stderr


