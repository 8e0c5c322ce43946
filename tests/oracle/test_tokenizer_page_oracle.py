"""Day 26 · The tokenizer page in a real browser gives the ids of the Python tokenizers.

Strings are random and hostile. The browser may know a later Unicode than this Python, so a string
has only characters that Unicode 3.2 knew and that have kept their kind since, and some emoji.
Skipped, with the reason, where there is no browser; conftest.py says what it takes.
"""

import itertools
import re
import unicodedata

import numpy as np
import pytest

from experiments import tokenizer_page
from llm.data.download import TextError
from llm.data.text import load
from llm.tokens.engine.split import split

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

WAYS = ["Characters", "Bytes", "BPE", "WordPiece", "Unigram"]
DRAWN = 240


def usable(code):
    """Do all versions of Unicode agree on this code point?"""
    kind = unicodedata.category(chr(code))
    return kind not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(chr(code)) == kind


ALPHABET = [chr(code) for code in range(0x110000) if usable(code)]
ODD = [c for c in ALPHABET if unicodedata.category(c)[0] in "ZC" and ord(c) < 0xE000]
TRICKY = ["'", "'s", "'S", "'ll", "'re", "'d", " ", "  ", "\n", "\r\n", "\r", "\t", "\x0b", "\x00",
          "\x1c", "\x85", "\xa0", "\u3000", "\u200b", "\ufeff", "\ufffd", "\u2028", "\u200d", "a",
          "Z", "é", "e\u0301", "ß", "ſ", "0", "7", "1600", "½", "Ⅷ", "٣", "中", "文字", "한글",
          "क्षि", "👩\u200d👧", "🇩🇪", "👍🏽", "!", "...", "--", "_", "#", "##", "##s", "$", "+", "^",
          "`", "|", "~", "<", ">", "▁", "▁the", "<|endoftext|>", "[UNK]", "[CLS]", "<unk>",
          "<0x41>", "<0xF0>", " the", "The", "thou", " countrymen", "honour", "ing",
          "EXEUNT", "\U0010fffd"]
FIXED = ["", " ", "\n", "'", "a" * 3000, " " * 500, "\n" * 300, "ab" * 700, "aab" * 400,
         "the" * 500, "'s" * 200, "0" * 500, " \n" * 200, "=" * 500, "中文" * 200, "👍🏽" * 100,
         "a" * 100, "a" * 101, "é" * 100 + " " + "é" * 101, "Friends,\r\nRomans,\r\n\r\n  lend",
         "   x   y\n \n z ", "don't I'LL you've 'twas", "<0xF0><0x41> <unk> [UNK]", "###",
         "▁▁ ▁a ▁", "x\x0by\x85z\u200dw", "\ufeffthe\ufeff", "naïve façade, Ελλάδα, Привет"]


def strings(n=400, seed=26):
    """The fixed ones, and n random ones of five kinds."""
    rng = np.random.default_rng(seed)
    ascii_ = [chr(c) for c in range(128)]
    letters = list("etaoin shrdlu,.'\nTHEOFI")
    kinds, made = (TRICKY, TRICKY + ODD, ascii_, ALPHABET, letters), list(FIXED)
    while len(made) < n + len(FIXED):
        kind = kinds[len(made) % 5]
        made.append("".join(kind[i] for i in rng.integers(0, len(kind), rng.integers(1, 60))))
    return made


STRINGS = strings()
PLAYED = ["the", " countrymen", "'ll", " banana", "aaaaaaa", "!", " 1600", "naïve", " façade", "👂",
          "▁▁", "honourable", "tokenizers", "THE", "Antony", " unforgivable"]


@pytest.fixture(scope="module")
def run():
    """The tokenizers behind the page."""
    try:
        return tokenizer_page.Run()
    except TextError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tokenizers(run):
    """{name on the page: what gives a list of ids}."""
    def characters(text):
        known = run.characters.characters
        return [known.find(c) for c in text]
    return dict(zip(WAYS, [characters, lambda text: list(text.encode()), *(
        lambda text, one=one: one.encode(text).tolist()
        for one in (run.bpe, run.wordpiece, run.unigram))]))


def ids_shown(page, way):
    """The ids under the pieces of one tokenizer; −1 for "none"."""
    shown = page.js("""return [...page.WAYS[arguments[0]].list.querySelectorAll("small")].map(
        (id) => id.textContent)""", WAYS.index(way))
    return [-1 if text == "none" else int(text) for text in shown]


def tokens_shown(page, way):
    """How many tokens the page says there are."""
    text = page.js("return page.WAYS[arguments[0]].tokens.textContent", WAYS.index(way))
    return int(text.replace(",", ""))


def steps(page, way, words):
    """[{columns, rows, ids}] for words, without what is said about them."""
    return page.js("""const way = page.WAYS[arguments[0]];
        return arguments[1].flatMap((text) => way.words(text).map(({key}) => {
          const {columns, rows, ids} = way.steps(key);
          return {key, columns, rows, ids};
        }))""", WAYS.index(way), words)


def stops(page):
    """How many pieces of each tokenizer the tab key stops at."""
    return page.js("""return page.WAYS.map(({list}) =>
        list.querySelectorAll("[tabindex='0']").length)""")


def put(page, text):
    """A text that cannot be typed by a driver, as if it had been."""
    page.js("""const text = document.getElementById("text");
        text.value = arguments[0];
        text.dispatchEvent(new Event("input"))""", text)
    page.press("#text")


def test_page_holds_what_the_script_writes(run):
    for path, text in tokenizer_page.fresh(run).items():
        assert path.read_text(encoding="utf-8") == text, \
            "run: python experiments/tokenizer_page.py"


def test_page_opens_from_a_file_without_errors_or_requests(show):
    page = show("tokenizer")
    assert all(ids_shown(page, way) for way in WAYS)
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    assert tokenizer_page.PAGE.stat().st_size < 300_000


@pytest.mark.parametrize("way", WAYS)
def test_ids_equal_pythons_on_every_string(show, tokenizers, way):
    theirs = show("tokenizer").js("""const way = page.WAYS[arguments[0]];
        return arguments[1].map((text) => page.encode(way, text))""", WAYS.index(way), STRINGS)
    for text, ids in zip(STRINGS, theirs, strict=True):
        assert ids == tokenizers[way](text), repr(text)


def test_words_equal_pythons_splitting_rules(show, run):
    page = show("tokenizer")
    for way, rule in (("BPE", split), ("WordPiece", run.wordpiece.bert.words)):
        theirs = page.js("""return arguments[1].map((text) =>
            page.WAYS[arguments[0]].words(text).map(({key}) => key))""", WAYS.index(way), STRINGS)
        for text, words in zip(STRINGS, theirs, strict=True):
            assert words == rule(text), repr(text)


def test_words_are_where_they_say(show):
    page = show("tokenizer")
    for way in WAYS:
        for words, text in zip(page.js("""return arguments[1].map((text) =>
                page.WAYS[arguments[0]].words(text))""", WAYS.index(way), STRINGS), STRINGS):
            units = text.encode("utf-16-le")
            for word in words:
                found = units[2 * word["from"]:2 * word["to"]].decode("utf-16-le")
                letters = set(word["key"].replace("▁", " "))
                assert letters <= set(found.replace("▁", " ")), repr(text)


def test_what_is_shown_for_a_typed_text_is_pythons(show, tokenizers):
    page = show("tokenizer")
    for text in ("I come to bury Caesar, not to praise him.", "O Romeo,\n  wherefore?", "don't"):
        page.write(text)
        for way in WAYS:
            ids = tokenizers[way](text)
            assert ids_shown(page, way) == ids
            assert tokens_shown(page, way) == len(ids)
            each = page.js("return page.WAYS[arguments[0]].each.textContent", WAYS.index(way))
            assert float(each) == pytest.approx(len(text.encode()) / len(ids), abs=.0051)


@pytest.mark.parametrize("text", ["👩\u200d👧 🇩🇪 ok", "क्षि 中文, x", "a\u0301\ufeffb",
                                  "\t\u3000 y"])
def test_text_of_any_script_is_shown_with_pythons_ids(show, tokenizers, text):
    page = show("tokenizer")
    put(page, text)
    for way in WAYS:
        assert ids_shown(page, way) == tokenizers[way](text)


def test_each_step_of_bpe_merges_the_lowest_rank_and_the_last_is_the_encoding(show, run):
    rank = {(a, b): r for r, (a, b, _) in enumerate(run.bpe.merges.tolist())}
    for word in steps(show("tokenizer"), "BPE", PLAYED):
        rows, ids = word["rows"], list(word["key"].encode())
        for row in rows[:-1]:
            assert [bar["id"] for bar in row["bars"]] == ids
            ranks = [rank.get(pair, "·") for pair in itertools.pairwise(ids)]
            assert [mark["text"] for mark in row["marks"]] == ranks
            won = min(r for r in ranks if r != "·")
            assert {mark["text"] for mark in row["marks"] if mark["kind"] == "best"} == {won}
            best = [bar["id"] for bar in row["bars"] if bar["kind"] == "best"]
            pair = run.bpe.merges[won, :2].tolist()
            assert best == pair * (len(best) // 2) and best
            ids = merged(ids, pair, int(run.bpe.merges[won, 2]))
        assert not any(pair in rank for pair in itertools.pairwise(ids))
        assert ids == [bar["id"] for bar in rows[-1]["bars"]] == word["ids"]
        assert ids == run.bpe.encode(word["key"]).tolist()


def merged(ids, pair, new):
    """Every `pair` from the left becomes `new`."""
    out, i = [], 0
    while i < len(ids):
        hit = ids[i:i + 2] == pair
        out.append(new if hit else ids[i])
        i += 1 + hit
    return out


def test_each_try_of_wordpiece_is_one_shorter_until_a_piece_fits(show, run):
    for word in steps(show("tokenizer"), "WordPiece", PLAYED):
        letters, first, begin, end = word["columns"], word["rows"][0], 0, len(word["columns"])
        assert first["bars"][0]["to"] == end == len(word["key"])
        for row in word["rows"][1:-1]:
            bar = row["bars"][0]
            assert (bar["from"], bar["to"]) == (begin, end)
            piece = "##" * (begin > 0) + "".join(letters[begin:end])
            assert (bar["kind"] == "best") == (piece in run.wordpiece.ids)
            begin, end = (end, len(letters)) if bar["kind"] == "best" else (begin, end - 1)
        ids = [bar["id"] for bar in word["rows"][-1]["bars"]]
        assert ids == word["ids"] == run.wordpiece.encode(word["key"]).tolist()


def test_the_lattice_of_unigram_has_every_piece_and_the_best_sum(show, run):
    scores = dict(run.unigram.pieces)
    lost = min(scores.values()) - 10
    for word in steps(show("tokenizer"), "Unigram", PLAYED):
        letters, edges = word["columns"], []
        for row in word["rows"][1:-1]:
            edges += [(bar["from"], bar["to"]) for bar in row["bars"]]
        n = len(letters)
        assert sorted(edges) == [
            (i, j) for i, j in itertools.combinations(range(n + 1), 2)
            if j == i + 1 or "".join(letters[i:j]) in scores]
        best = [0.0] + [-np.inf] * n
        for i, j in sorted(edges):
            best[j] = max(best[j], best[i] + scores.get("".join(letters[i:j]), lost))
        for row in word["rows"][1:-1]:
            bar = row["bars"][0]
            if row["kind"] == "best":
                assert bar["total"] == pytest.approx(best[bar["to"]], rel=1e-12)
        path = [bar for row in word["rows"] for bar in row["bars"] if "path" in bar["kind"]]
        assert [bar["from"] for bar in path] + [n] == [0] + [bar["to"] for bar in path]
        assert sum(bar["score"] for bar in path) == pytest.approx(best[n], rel=1e-12)
        assert word["ids"] == run.unigram.encode(word["key"].replace("▁", " ")).tolist()


def test_the_keyboard_steps_through_the_merges_and_back(show, run):
    page = show("tokenizer")
    page.write("honourable")
    seen = lambda: page.js("""return [...document.querySelectorAll(".BPE .row")].filter(
        (row) => getComputedStyle(row).visibility === "visible").length""")
    all_rows, back, on = seen(), ".BPE.how button:nth-child(1)", ".BPE.how button:nth-child(2)"
    assert all_rows == len(steps(page, "BPE", ["honourable"])[0]["rows"]) > 3
    for left in range(all_rows - 1, 0, -1):
        page.press(back, Keys.ENTER)
        assert seen() == left
    page.press(back, Keys.ENTER)                     # already at the start: nothing happens
    assert seen() == 1 and page.the(back).get_attribute("aria-disabled") == "true"
    assert page.the(".BPE .say").text.startswith("10 bytes. 9 pairs, ")
    for shown in range(2, all_rows + 1):
        page.press(on, Keys.SPACE)
        assert seen() == shown
    final = page.js("""return [...document.querySelectorAll(".BPE .row:last-child .id")].map(
        (mark) => Number(mark.textContent))""")
    assert final == run.bpe.encode("honourable").tolist() == ids_shown(page, "BPE")
    assert page.the(".BPE .say").text.endswith(f"done, {len(final)} tokens.")


def test_play_goes_from_the_start_to_the_end_and_can_pause(show):
    page = show("tokenizer")
    page.write("of")
    count, play = ".BPE.how .buttons .quiet", ".BPE.how button:nth-child(3)"
    assert page.the(count).text == "step 1 of 1"
    page.press(play, Keys.ENTER)
    assert (page.the(count).text, page.the(play).text) == ("step 0 of 1", "Pause")
    page.driver.execute_async_script("""const done = arguments[0];
        setInterval(() => page.views[0].timer || done(), 50)""")
    assert (page.the(count).text, page.the(play).text) == ("step 1 of 1", "Play")
    page.press(play, Keys.ENTER)
    page.press(play, Keys.ENTER)
    assert (page.the(count).text, page.the(play).text) == ("step 0 of 1", "Play")


def test_arrow_keys_go_through_the_pieces_and_choose_the_word_everywhere(show, run):
    page = show("tokenizer")
    page.write("Sweet flowers, bring them hither")
    piece = lambda n: f"section.way:nth-child(3) .piece:nth-child({n})"
    page.press(piece(1), Keys.HOME)
    assert page.the("#word").text == "Sweet, step by step"
    at, ids = 1, run.bpe.encode("Sweet flowers, bring them hither").tolist()
    for key in [Keys.ARROW_RIGHT] * 6 + [Keys.ARROW_LEFT, Keys.END, Keys.HOME, Keys.END]:
        page.press(piece(at), key)
        at = {Keys.ARROW_RIGHT: at + 1, Keys.ARROW_LEFT: at - 1, Keys.END: len(ids),
              Keys.HOME: 1}[key]
        detail = page.the("section.way:nth-child(3) .detail").text
        shown = run.bpe.pieces[ids[at - 1]]
        assert f"id {ids[at - 1]} · bytes {shown.hex(' ').upper()}" in detail
        assert page.js("return document.activeElement.tabIndex") == 0
        assert stops(page) == [1] * 5
    assert page.the("#word").text == "hither, step by step"
    for way in WAYS[2:]:
        chosen = page.js("""return [...page.WAYS[arguments[0]].list.querySelectorAll(
            "[aria-selected=true]")].map((piece) => piece.firstChild.data).join("")""",
                         WAYS.index(way))
        assert re.sub("[␣▁#]", "", chosen) == "hither"


def test_a_click_chooses_a_word_and_hovering_tells_about_a_piece(show):
    page = show("tokenizer")
    page.write("Sweet flowers")
    page.all("section.way:nth-child(4) .piece")[-1].click()
    assert page.the("#word").text == "flowers, step by step"
    assert page.the("section.way:nth-child(4) .detail").text.startswith("##")


def test_empty_text_is_nothing_to_cut(show):
    page = show("tokenizer")
    page.press("#clear", Keys.ENTER)
    assert all(ids_shown(page, way) == [] and tokens_shown(page, way) == 0 for way in WAYS)
    assert {view.text for view in page.all(".say")} == {"Nothing to cut yet."}
    put(page, "  \n")
    assert tokens_shown(page, "WordPiece") == 0 < tokens_shown(page, "BPE")


def test_a_long_paste_is_counted_whole_and_drawn_in_part(show, tokenizers):
    page, text = show("tokenizer"), load("shakespeare").text[1_000_000:1_100_000]
    put(page, text)
    for way in WAYS:
        ids = tokenizers[way](text)
        assert tokens_shown(page, way) == len(ids) > 20_000
        assert ids_shown(page, way) == ids[:DRAWN]
    rest = page.the("section.way:nth-child(1) .rest").text
    assert rest == f"and {len(text) - DRAWN:,} more, counted but not drawn"
    put(page, "a" * 100_000)
    assert tokens_shown(page, "BPE") == len(tokenizers["BPE"]("a" * 100_000))
    assert "This word has 100,000 bytes" in page.the(".BPE .say").text


def test_half_a_character_is_named_and_replaced(show, tokenizers):
    page = show("tokenizer")
    page.js("""const text = document.getElementById("text");
        text.value = "ab" + String.fromCharCode(0xD83D) + "c" + String.fromCharCode(0xDC00);
        text.dispatchEvent(new Event("input"))""")
    page.press("#text")
    remark = page.the("#remarks").text
    assert "U+D83D, is at place 2 (and 1 other)" in remark and "U+FFFD" in remark
    for way in WAYS:
        assert ids_shown(page, way) == tokenizers[way]("ab\ufffdc\ufffd")


def test_special_tokens_that_are_typed_are_text(show, run, tokenizers):
    page = show("tokenizer")
    for name in (tokenizer_page.SPECIAL, "[CLS]", "<unk>"):
        page.write(f"x {name}")
        assert page.the("#remarks").text.startswith(f"{name} is a special token.")
        for way in WAYS:
            assert ids_shown(page, way) == tokenizers[way](f"x {name}")
    assert run.bpe.specials[tokenizer_page.SPECIAL] not in ids_shown(page, "BPE")
    page.write("x")
    assert page.the("#remarks").text == ""


def test_pasted_line_ends_of_windows_are_remarked_on(show):
    page = show("tokenizer")
    page.js("""const data = new DataTransfer();
        data.setData("text/plain", "a\\r\\nb\\r\\nc");
        const text = document.getElementById("text");
        text.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
        text.value = "a\\r\\nb\\r\\nc";
        text.dispatchEvent(new Event("input"))""")
    page.press("#text")
    assert page.the("#remarks").text.startswith("2 line ends of the pasted text had a CR")
    assert ids_shown(page, "Bytes") == [97, 10, 98, 10, 99]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 375, 1000])
def test_page_fits_the_screen_and_can_be_read_in_both_schemes(show, width, scheme):
    page = show("tokenizer", width=width, scheme=scheme)
    for button in page.all("#examples button"):
        button.click()
        assert page.js("return document.documentElement.scrollWidth") <= width
        for text, paper in page.js("""
            const colours = [];
            for (const element of document.querySelectorAll(
                "p, h3, .piece, .piece small, .bar, .marks span, .number, code, button")) {
              let below = element;
              const colour = () => getComputedStyle(below).backgroundColor;
              while (colour() === "rgba(0, 0, 0, 0)") below = below.parentElement;
              colours.push(getComputedStyle(element).color + "/" + colour());
            }
            return [...new Set(colours)].map((pair) => pair.split("/"))"""):
            high, low = sorted([page.luminance(text), page.luminance(paper)], reverse=True)
            assert (high + .05) / (low + .05) >= 4.5, (text, paper)      # WCAG 2, level AA
    page.write("honorificabilitudinitatibus")           # too wide for a phone: it scrolls by itself
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert (page.luminance(page.js("return getComputedStyle(document.body).backgroundColor")) > .8
            ) == (scheme == "light")


def test_every_control_has_a_name_and_each_list_is_one_stop_of_the_keyboard(show):
    page = show("tokenizer")
    controls = page.all(":is(button, textarea, a, [role=listbox], [role=option], [role=img])")
    assert len(controls) > 100
    assert all(control.accessible_name for control in controls)
    assert stops(page) == [1] * 5
    assert page.js("""return page.WAYS.map(({list}) =>
        list.querySelector("[tabindex='0']").ariaSelected)""") == ["true"] * 5
    order, here = [], None
    page.js("document.activeElement.blur()")
    for _ in range(30):
        page.press("body" if here is None else ":focus", Keys.TAB)
        here = page.js("const {role, tagName} = document.activeElement; return role ?? tagName")
        order.append(here)
        if here == "BODY":
            break
    assert order[:3] == ["A"] * 3 and order[3] == "TEXTAREA"
    assert [x for x in order if x == "option"] == ["option"] * 5
