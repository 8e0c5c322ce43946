"""Day 08 · The interactive pages in a real browser, against the Python models they are made of.

Skipped, with the reason, where there is no browser; conftest.py says what it takes.
"""

import numpy as np
import pytest

from experiments import pages
from llm.data.download import TextError
from llm.functions.probability import entropy
from llm.generate.sample import tempered
from llm.models.ngram import NGram

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

PAGES = "ngram", "temperature"
BIT = np.log(2)
CONTEXTS = ["", "t", "q", "th", "the ", "love", "your e", "O Romeo", "zzzz", "xqzj", "\n\n", "}{",
            "ROME", "thou art a ", "7"]


@pytest.fixture(scope="module")
def run():
    """The texts and models behind the pages."""
    try:
        return pages.Run()
    except TextError as error:
        pytest.skip(str(error))


def shown(p):
    """A probability as the pages write it."""
    return "< 0.1 %" if 0 < p < .0005 else f"{100 * p:.1f} %"


def share(text):
    """The number in "12.3 %", half of a tenth for "< 0.1 %"."""
    return .05 if text.startswith("<") else float(text.removesuffix(" %"))


def test_pages_hold_what_the_script_writes(run):
    for path, text in pages.fresh(run).items():
        assert path.read_text(encoding="utf-8") == text, "run: python experiments/pages.py"


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_from_a_file_without_errors_or_requests(show, name):
    page = show(name)
    assert len(page.bars()) == 15
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    assert (pages.FOLDER / f"{name}.html").stat().st_size < 300_000


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_can_be_read_in_both_schemes(show, name, scheme):
    page = show(name, width=360, scheme=scheme)
    assert page.js("return document.documentElement.scrollWidth") <= 360
    paper, ink, quiet = page.js("""
        const style = (selector) => getComputedStyle(document.querySelector(selector));
        return [style("body").backgroundColor, style("body").color, style(".quiet").color]""")
    assert (page.luminance(paper) > .8) == (scheme == "light")
    assert (page.luminance(paper) < .05) == (scheme == "dark")
    for colour in (ink, quiet):     # WCAG 2, level AA
        high, low = sorted([page.luminance(paper), page.luminance(colour)], reverse=True)
        assert (high + .05) / (low + .05) >= 4.5


@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name_and_is_reached_by_the_keyboard(show, name):
    page = show(name)
    controls = page.all(":is(button, input, select, textarea, a):not([hidden])")
    assert len(controls) > 6
    assert all(control.accessible_name for control in controls)
    assert all(control.get_property("tabIndex") == 0 for control in controls)


@pytest.mark.parametrize("order", range(1, pages.ORDER + 1))
def test_every_distribution_equals_pythons(show, run, order):
    page = show("ngram")
    strengths = [(kind, dict(options)) for kind, options in pages.STRENGTHS.items()]
    strengths += [("add-k", {"k": 2.0}), ("interpolated", {"alpha": 5.0}),
                  ("absolute", {"discount": 0.3})]
    for smoothing, options in strengths:
        model = run.model(order, smoothing, **options)
        theirs = page.js("""return arguments[0].map((text) => Array.from(
            page.predict(text, arguments[1], arguments[2], arguments[3]).p))""",
            CONTEXTS, order, smoothing, next(iter(options.values()), None))
        ours = [model.distribution(recent(run, text, order)) for text in CONTEXTS]
        np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(np.sum(theirs, axis=1), 1, rtol=1e-12)


def recent(run, text, order):
    """The ids of the last order − 1 characters."""
    return run.tokenizer.encode(text[max(0, len(text) - order + 1):])


def test_shares_of_the_contexts_add_up_to_one(show):
    page = show("ngram")
    for smoothing, options in pages.STRENGTHS.items():
        total = page.js("""const {flat, levels} = page.predict("my love", 5, ...arguments);
            return levels.reduce((sum, level) => sum + level.share, flat)""",
            smoothing, next(iter(options.values()), None))
        assert total == pytest.approx(1, rel=1e-12)


def test_typing_changes_the_distribution_and_what_is_shown_is_pythons(show, run):
    page, model = show("ngram"), run.model(5, "kneser-ney")
    before = page.bars()
    for text in ("the", "sweet", "Wherefore art tho"):
        page.write(text)
        p = model.distribution(recent(run, text, 5))
        best = np.lexsort((np.arange(len(p)), -p))[:14]
        names = [run.tokenizer.characters[i].replace(" ", "␣").replace("\n", "⏎") for i in best]
        after = page.bars()
        assert after[:14] == [(name, shown(p[i])) for name, i in zip(names, best)]
        assert after != before
        assert sum(share(number) for _, number in after) == pytest.approx(100, abs=1)
        before = after


def test_the_score_of_a_text_is_pythons_log_probability(show, run):
    page, text = show("ngram"), "But soft! What light?"
    page.write(text)
    scores = [[float(cell) for cell in cells[1:]] for cells in page.rows("#scores")]
    ids = run.tokenizer.encode(text)
    ours = [[-run.model(order, kind).log_probabilities(ids).mean() for kind in pages.STRENGTHS]
            for order in range(1, pages.ORDER + 1)]
    np.testing.assert_allclose(scores, ours, atol=.00051)


def test_order_smoothing_and_strength_are_chosen_by_arrow_keys(show, run):
    page = show("ngram")
    page.press("#order input[value='5']", Keys.ARROW_LEFT)
    page.press("#smoothing input[value='kneser-ney']", Keys.ARROW_LEFT)
    assert page.js("return [page.state.order, page.state.smoothing]") == [4, "absolute"]
    page.press("#slider", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.the("#what").text == "D, taken off every count: 0.85"
    p = run.model(4, "absolute", discount=.85).distribution(recent(run, "your e", 4))
    assert page.bars()[0][1] == shown(p.max())


def test_writing_by_buttons(show):
    page = show("ngram")
    page.write("The qu")
    page.press("#likeliest", Keys.ENTER)
    first = page.bars()[0][0]
    page.press("#bars button", Keys.ENTER)
    text = page.the("#text").get_property("value")
    assert text[:6] == "The qu" and len(text) == 8 and text[-1] == first.replace("␣", " ")
    page.press("#write", Keys.ENTER)
    assert len(page.the("#text").get_property("value")) == 48
    for _ in range(8):
        page.press("#write", Keys.ENTER)
    assert len(page.the("#text").get_property("value")) == 300     # the front falls off


def test_characters_outside_the_vocabulary_are_named_and_skipped(show):
    page = show("ngram")
    page.write("café th")
    assert "never uses é" in page.the("#context").text
    assert page.js("return page.known('café th')") == " th"
    assert page.js("return page.known('’tis “so” — no')") == "'tis \"so\" - no"
    page.write("§")
    assert len(page.bars()) == 15


@pytest.fixture(scope="module")
def logits(run):
    """{lead: logits of the Python model} for every place of the page."""
    model: NGram = run.model(pages.ORDER, "kneser-ney")
    return {lead: np.log(model.distribution(recent(run, lead, pages.ORDER)))
            for lead, _ in pages.places(run)}


def cut(z, temperature, k, mass):
    """What the page should draw from, in plain NumPy."""
    p = tempered(z, temperature)
    best = np.argsort(-z, kind="stable")[:k if temperature else 1]
    reached = np.cumsum(p[best])
    kept = best[:np.searchsorted(reached, (mass - 1e-12) * reached[-1]) + 1] if mass < 1 else best
    out = np.zeros_like(p)
    out[kept] = p[kept] / p[kept].sum()
    return out


def test_logits_and_cuts_equal_numpys_at_every_place(show, logits):
    page = show("temperature")
    for lead, z in logits.items():
        np.testing.assert_allclose(page.js("return page.logits(arguments[0])", lead), z, rtol=1e-9)
        for settings in [(1, 84, 1), (.5, 84, 1), (2, 10, 1), (1.5, 84, .73), (.7, 20, .87),
                         (0, 84, 1), (0, 3, .5), (.05, 84, 1)]:
            found = page.js("return page.shape(...arguments)", z.tolist(), *settings)
            ours = cut(z, *settings)
            np.testing.assert_allclose(found["p"], ours, rtol=1e-9, atol=1e-300)
            if settings[0] != .05:      # so cold that an unlikely character underflows to 0
                assert found["kept"] == np.count_nonzero(ours)
            assert page.js("return page.entropy(arguments[0])", found["p"]) == pytest.approx(
                entropy(ours) / BIT, abs=1e-9)


@pytest.mark.parametrize("k, mass, kept", [(4, .8, 2), (4, .81, 3), (4, 1, 4), (2, 1, 2),
                                           (2, .6, 1), (2, .63, 2), (99, 1, 4), (4, .05, 1)])
def test_top_k_and_top_p_keep_the_right_number(show, k, mass, kept):
    """.5 and .3 hold .8 of the whole; of the two likeliest the first holds .5 / .8 = .625."""
    z = np.log([.3, .5, .05, .15]).tolist()
    assert show("temperature").js("return page.shape(arguments[0], 1, arguments[1], arguments[2])",
                                  z, k, mass)["kept"] == kept


def test_arrow_keys_change_the_temperature_and_the_entropy_shown_is_numpys(show, logits):
    page, (lead, z) = show("temperature"), list(logits.items())[6]
    assert page.js("return page.settings().lead") == lead
    for key, t in [(Keys.ARROW_RIGHT, 1.05), (Keys.END, 2), (Keys.ARROW_LEFT, 1.95)]:
        page.press("#temperature", key)
        assert page.the("#temperature-out").text == f"{t:.2f}"
        assert page.facts()["entropy, bits"] == tuple(
            f"{entropy(tempered(z, x)) / BIT:.3f}" for x in (1, t))
        assert page.bars()[0][1] == shown(tempered(z, t).max())


def test_at_temperature_zero_the_likeliest_takes_all(show):
    page = show("temperature")
    for keys in ([Keys.HOME, Keys.ARROW_RIGHT], [Keys.HOME]):      # 0.05, then 0
        page.press("#temperature", *keys)
        assert page.bars()[0][1] == "100.0 %"
    assert page.facts()["entropy, bits"][1] == "0.000"
    assert page.facts()["characters left"] == ("84", "1")
    assert len({sample.text for sample in page.all(".sample")}) == 1     # no chance is left


def test_cuts_by_keyboard_keep_the_right_count(show, logits):
    page, z = show("temperature"), list(logits.values())[6]
    page.press("#top-k", Keys.HOME, *[Keys.ARROW_RIGHT] * 4)
    assert page.facts()["characters left"] == ("84", "5")
    assert [number == "cut" for _, number in page.bars()] == [False] * 5 + [True] * 10
    page.press("#top-p", Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    left = np.count_nonzero(cut(z, 1, 5, .9))
    assert page.facts()["characters left"] == ("84", str(left))
    page.press("#reset", Keys.ENTER)
    assert page.facts()["characters left"] == ("84", "84")


def test_samples_follow_the_settings_and_keep_their_dice(show):
    page = show("temperature")
    texts = lambda: [sample.text for sample in page.all(".sample")]
    first = texts()
    assert len(set(first)) == 3
    page.press("#temperature", Keys.END)
    assert texts() != first
    page.press("#reset", Keys.ENTER)
    assert texts() == first
    page.press("#dice", Keys.ENTER)
    assert texts() != first
