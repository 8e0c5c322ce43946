"""Day 52 · The page on one token's way: its numbers are SmolLM2's, and its sums those of the days.

Skipped, with the reason, where there is no browser, or where the model cannot be had; conftest.py
says what a browser takes.
"""

import json
import math

import numpy as np
import pytest

from days.day52 import made, study
from days.harness import ROOT
from experiments import token_page as script
from experiments.pages import fill, part
from llm.data.download import TextError
from llm.functions.probability import softmax
from llm.generate.architecture import Architecture
from llm.generate.cache import KVCache
from llm.generate.decode import count_flops, decode
from llm.generate.pretrained import load

LEFT, RIGHT, UP, DOWN = "\ue012", "\ue014", "\ue013", "\ue015"      # keys, as WebDriver has them
HOME, END = "\ue011", "\ue010"
DATA = json.loads(part(script.PAGE.read_text(encoding="utf-8"), "data"))
CONFIG = DATA["config"]
L = CONFIG["L"]
ARCH = Architecture(T=8192, norm="rms", rotary=1e5, feed_forward="swiglu", **CONFIG)
RESULT = json.loads((ROOT / "days/day52/result.json").read_text(encoding="utf-8"))
LAST = {one["text"]: one["ways"][-1] for one in DATA["prompts"]}


@pytest.fixture(scope="module")
def smollm():
    """The real model and its float32 weights."""
    try:
        model = load(report=lambda line: None)
    except TextError as error:
        pytest.skip(str(error))
    return model, model.weights()


@pytest.fixture(scope="module")
def small():
    """A made model of the same family with random weights, and those weights."""
    with made.source(True, None) as path:
        model = load(path, lambda line: None)
        yield model, model.weights()


# ---- What the script computes --------------------------------------------------------------------


def test_the_last_stream_under_the_lens_is_what_decode_says(small):
    (model, weights), ids = small, np.array([3, 1, 4, 1, 5])
    x = script.streams(model.arch, weights, ids)
    assert x.shape == (2 * model.arch.L + 1, 5, model.arch.C) and x.dtype == np.float32
    np.testing.assert_array_equal(x[0], weights["embed"][ids])
    logits = decode(model.arch, weights, ids, KVCache(model.arch, 5))
    if "head" not in weights:
        np.testing.assert_allclose(np.exp(script.lens(model.arch, weights, x[-1])),
                                   softmax(logits), rtol=1e-3, atol=1e-7)


def test_a_way_by_hand():
    """One block, two channels: the stream is (3, 4), then (3, 0), then (0, 0)."""
    stream = np.array([[3., 4], [3, 0], [0, 0]])
    logp = np.log([[.1, .2, .7], [.2, .5, .3], [.25, .6, .15]])
    found = script.way(stream, logp, 0)
    assert found == {"final": 1, "p": [.2, .5, .6], "next": [.1, .2, .25],
                     "top": [[[2, 1, 0], [.7, .2, .1]], [[1, 0, 2], [.6, .25, .15]]],
                     "place": [2, 1], "length": [5, 0], "attention": [4], "thought": [3]}
    assert script.way(stream, logp, None)["next"] is None
    assert script.short([math.pi * 1e-30, 123456, 0]) == [3.142e-30, 123500, 0]


def test_the_matrices_of_a_file_add_up_to_its_tensors(small):
    model, _ = small
    rows = script.matrices(model.file)
    assert [row[0] for row in rows] == list(script.NAMES)
    assert sum(many * size for *_, many, size in rows) == sum(
        row[3] for row in study.kinds(model.file))
    assert sum(out * (inputs or 1) * many for _, out, inputs, _, many, _ in rows) == (
        model.count_weights())


def test_the_page_is_the_template_filled_by_the_script(small, monkeypatch):
    monkeypatch.setattr(script, "PROMPTS", ["abc", "d"])
    [(path, text)] = script.fresh(small[0]).items()
    page = path.read_text(encoding="utf-8")
    assert path == script.PAGE and fill(text, "data", "") == fill(page, "data", "")
    assert [len(one["ways"]) for one in json.loads(part(text, "data"))["prompts"]] == [
        len(small[0].encode(prompt)) for prompt in ("abc", "d")]


def test_the_pages_numbers_are_those_of_the_real_model(smollm):
    """In float32 here, in float64 there: four digits agree where p is no tiny number."""
    model, weights = smollm
    assert [one["text"] for one in DATA["prompts"]] == script.PROMPTS
    for theirs in DATA["prompts"][::4]:                     # two of the six, for time
        ours = script.prompt(model, weights, theirs["text"])
        assert ours["ids"] == theirs["ids"]
        logits = decode(model.arch, weights, np.array(ours["ids"]), KVCache(model.arch, 20))
        for row, one, other in zip(softmax(logits), ours["ways"], theirs["ways"]):
            assert other["final"] == one["final"] == row.argmax()
            assert other["p"][-1] == pytest.approx(row.max(), rel=2e-3)
            for key in ("length", "attention", "thought"):
                np.testing.assert_allclose(one[key], other[key], rtol=2e-3)
            for key in ("p", "next"):
                if other[key] is None:
                    assert one[key] is None
                    continue
                p, q = np.array(one[key]), np.array(other[key])
                likely = q > 1e-25
                np.testing.assert_allclose(np.log(p[likely]), np.log(q[likely]), atol=.02)
                assert len(p) == len(q) == 2 * L + 1
            np.testing.assert_allclose(*([p for _, p in way["top"]] for way in (one, other)),
                                       rtol=.02)
            assert [place == 1 for place in other["place"]] == [
                ids[0] == other["final"] for ids, _ in other["top"]]
            np.testing.assert_allclose(one["place"], other["place"], rtol=.02, atol=1)


def test_what_the_page_says_of_its_examples_is_so():
    tower = LAST["The Eiffel Tower stands in the city of"]
    assert bytes.fromhex(DATA["pieces"][str(tower["final"])]) == b" Paris"
    assert min(tower["place"][:24]) > 2000 and tower["place"][28] == 1
    romeo = LAST["Romeo and Juliet is a play by William"]
    assert bytes.fromhex(DATA["pieces"][str(romeo["final"])]) == b" Shakespeare"
    assert romeo["p"][2 * 28] > romeo["p"][-1] + .1
    for one in DATA["prompts"]:
        first, *later = (np.array(way["length"][12:21]) for way in one["ways"])
        assert np.all(first > 80 * np.array(later))
    assert CONFIG["V"] == 49152 and CONFIG["C"] == 576 and L == 30


def test_the_pages_matrices_are_those_of_day_52s_account():
    kinds = {}
    for _, out, inputs, kind, many, size in DATA["matrices"]:
        row = kinds.setdefault(kind, [0, 0, 0])
        row[:] = row[0] + many, row[1] + many * out * (inputs or 1), row[2] + many * size
    assert kinds == {name: row for name, *row in RESULT["kinds"]}
    assert DATA["file"] == RESULT["file_bytes"]


# ---- The page in a browser -----------------------------------------------------------------------


def test_page_opens_from_a_file_and_is_small(show):
    page = show("token")
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    assert script.PAGE.stat().st_size < 400_000
    assert len(page.all("#layers .row")) == L + 1 and len(page.bars()) == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_can_be_read_in_both_schemes(show, scheme):
    page = show("token", width=360, scheme=scheme)
    for prompt in range(len(DATA["prompts"])):
        page.js("""document.getElementById("prompt").value = arguments[0];
                   document.getElementById("prompt").oninput()""", prompt)
        assert page.js("return document.documentElement.scrollWidth") <= 360
    page.js("page.choose(2)")
    paper, *inks = page.js("""
        const style = (selector) => getComputedStyle(document.querySelector(selector));
        const line = "#layers [aria-selected=true]", piece = style(".piece");
        return [style("body").backgroundColor, style("body").color, style(".quiet").color,
                style(".piece.later").color,
                [style(line).backgroundColor, style(`${line} > :first-child`).color],
                [piece.backgroundColor, piece.color]]""")
    assert (page.luminance(paper) > .8) == (scheme == "light")
    assert (page.luminance(paper) < .05) == (scheme == "dark")
    for ink in inks:                                    # WCAG 2, level AA
        low, high = sorted(map(page.luminance, [paper, ink] if isinstance(ink, str) else ink))
        assert (high + .05) / (low + .05) >= 4.5


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(show):
    page = show("token")
    controls = page.all(":is(button, input, select, textarea, a):not([hidden])")
    assert len(controls) == 5
    for options in (page.all(".piece"), page.all("#layers .row")):
        controls += [option for option in options if option.get_property("tabIndex") == 0]
        assert all(option.accessible_name for option in options)
    assert len(controls) == 7 and all(control.accessible_name for control in controls)


def shown(p):
    """A probability as the page writes it."""
    if p >= .001 or p == 0:
        return f"{p:.3f}"
    digits, power = f"{p:.1e}".split("e")
    return f"{digits}·10{int(power)}".replace("-", "−")


def name(i):
    """A token as the page writes it, if it is a whole character."""
    text = bytes.fromhex(DATA["pieces"][str(i)]).decode()
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\u00a0", "⍽")


def test_texts_tokens_and_blocks_are_chosen_by_keys_and_what_is_shown_is_the_data(show):
    page = show("token")
    page.press("#prompt", DOWN)
    prompt = DATA["prompts"][1]
    assert [piece.text for piece in page.all(".piece")] == [name(i) for i in prompt["ids"]]
    page.press(".piece[aria-selected=true]", LEFT, HOME, RIGHT, RIGHT)
    assert page.js("return [page.state.prompt, page.state.at]") == [1, 2]
    way = prompt["ways"][2]
    page.press("#layers [aria-selected=true]", END, UP, UP)
    assert page.js("return page.state.layer") == L - 2
    assert page.the("#layers [aria-selected=true]") == page.driver.switch_to.active_element
    for layer, row in enumerate(page.js("""return [...document.querySelectorAll("#layers .row")]
            .map((row) => [...row.children].map((cell) => cell.textContent))""")):
        assert row == [str(layer), name(way["top"][layer][0][0]), "", shown(way["p"][2 * layer])]
    for keys, layer in (([], L - 2), ([HOME], 0), ([DOWN], 1), ([UP, UP], 0)):
        page.press("#layers [aria-selected=true]", *keys)
        ids, p = way["top"][layer]
        assert page.bars() == [(name(i), shown(x)) for i, x in zip(ids, p)]
        facts = [cells[1] for cells in page.rows("#facts")]
        assert facts[:3] == [f"{way['place'][layer]:,}", shown(way["p"][2 * layer]),
                             f"{way['length'][layer]:.1f}"]
        assert len(facts) == (7 if layer else 3)
        if layer:
            assert facts[3] == f"{way['attention'][layer - 1]:.1f}"
            assert facts[5] == f"{way['thought'][layer - 1]:.1f}"
            before, half, after = way["p"][2 * layer - 2:2 * layer + 1]
            for text, factor in ((facts[4], half / before), (facts[6], after / half)):
                digits = text.removeprefix("× ").replace("−", "-").replace("·10", "e")
                assert float(digits) == pytest.approx(factor, rel=.05, abs=.005)


def test_the_verdict_names_the_last_word_and_the_block_from_which_on_it_stays(show):
    page = show("token")
    assert page.js("return [[1, 1], [2, 1], [1, 2]].map((place) => page.settled({place}))") == [
        0, 1, 2]
    for p, prompt in enumerate(DATA["prompts"]):
        page.js("""document.getElementById("prompt").value = arguments[0];
                   document.getElementById("prompt").oninput()""", p)
        for t, way in enumerate(prompt["ways"]):
            page.js("page.choose(arguments[0])", t)
            said = page.the("#verdict").text
            assert f"finds {name(way['final'])} likeliest, with a probability of " + (
                shown(way["p"][-1])) in said
            following = prompt["ids"][t + 1] if t + 1 < len(prompt["ids"]) else None
            assert ("goes on with" in said) == (following is not None)
            if following not in (None, way["final"]):
                assert f"{name(following)}, which has {shown(way['next'][-1])}" in said
            since = max([0, *(layer + 1 for layer in range(L + 1) if way["place"][layer] > 1)])
            assert page.js("return page.settled(arguments[0])", way) == since
            assert (f"from block {since} on" if 0 < since < L else "the embedding on" if since == 0
                    else "the last block only") in said


@pytest.mark.parametrize("t", [0, 1, 7])
def test_the_costs_add_up_to_the_days_own_accounts(show, t):
    page = show("token")
    page.js("page.choose(arguments[0])", t)
    rows = page.js("return page.parts(arguments[0])", t)
    assert sum(row["flops"] for row in rows) == count_flops(ARCH, t, 1)             # day 42
    read = {row["name"]: row["bytes"] for row in rows}
    matrices = [row["bytes"] for row in rows if row["flops"] and row["name"] != "attention"]
    assert sum(matrices) == RESULT["speed"][1][1]         # what day 52's engine reads for a token
    assert read["attention"] == KVCache(ARCH, t + 1).bytes()
    assert read["embedding, one row"] == 576 // 32 * 34
    table = [cells for cells in page.rows("#parts") if len(cells) == 4]
    assert len(table) == len(rows) + 1
    for row, cells in zip(rows, table):
        assert cells[0].startswith(row["name"])
        assert float(cells[2]) == pytest.approx(row["bytes"] / 1e6, abs=.0051)
        assert cells[1] == "–" or float(cells[1]) == pytest.approx(row["flops"] / 1e6, abs=.0051)
        assert (cells[1] == "–") == ("norm" in row["name"])
        share = 100 * row["bytes"] / sum(read["bytes"] for read in rows)
        assert float(cells[3].removesuffix(" %")) == pytest.approx(share, abs=.051)
    total = sum(row["bytes"] for row in rows)
    assert [float(cell) for cell in table[-1][1:3]] == pytest.approx(
        [count_flops(ARCH, t, 1) / 1e6, total / 1e6], abs=.0051)
    said = page.the("#sums").text
    stored = sum(size for *_, size in RESULT["kinds"])
    for number in (count_flops(ARCH, t, 1), total, RESULT["file_bytes"], stored,
                   RESULT["file_bytes"] - stored):
        assert f"{number:,}" in said


def test_the_chart_follows_the_token_and_the_block(show):
    page = show("token")
    way = DATA["prompts"][0]["ways"][0]
    page.js("page.choose(0); page.go(15)")
    points = page.js("""return document.querySelector("#chart .stream").getAttribute("points")""")
    y = [float(point.split(",")[1]) for point in points.split()]
    np.testing.assert_allclose(y, 190 - 34 * np.log10(way["length"]), atol=.051)
    x = float(points.split()[15].split(",")[0])
    here = float(page.the("#chart .here").get_attribute("x1"))
    assert here == pytest.approx(x, abs=.06)
    assert f"{way['length'][15]:.0f} behind block 15" in page.the("#chart").get_attribute(
        "aria-label")
