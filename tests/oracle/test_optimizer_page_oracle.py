"""Day 18 · The optimizer page in a real browser takes the steps of `llm.train`'s optimizers.

The gradients on this side come from day 15's Tensors, in float64. Skipped, with the reason, where
there is no browser; conftest.py says what it takes.
"""

import numpy as np
import pytest

from experiments.pages import FOLDER, part
from llm.grad.tensor import Tensor
from llm.train.adam import AdamW, RMSProp
from llm.train.sgd import SGD

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

OPTIMIZERS = {
    "SGD": SGD,
    "Momentum": lambda p: SGD(p, momentum=0.9),
    "Nesterov": lambda p: SGD(p, momentum=0.9, nesterov=True),
    "RMSProp": RMSProp,
    "Adam": lambda p: AdamW(p, decay=0.0),
    "AdamW": lambda p: AdamW(p, decay=0.1, decays=lambda name, tensor: True),
}


def bowl(x, y):
    return 0.5 * square(x - 1) + 12.5 * square(y - 0.5)


def square(x):
    return x * x


SURFACES = {
    "bowl": bowl,
    "rosenbrock": lambda x, y: square(1 - x) + 100 * square(y - x * x),
    "saddle": lambda x, y: 0.5 * square(x) - 0.5 * square(y) + 0.25 * square(square(y)) + 0.25,
    "noisy": bowl,
}
RATES = {"SGD": .0012, "Momentum": .0004, "Nesterov": .0005, "RMSProp": .02, "Adam": .05,
         "AdamW": .08}


def python(name, surface, rate, start, steps, shakes=None):
    """The points and the losses that the Python optimizer visits."""
    x, y = (Tensor(np.array([z], np.float64), requires_grad=True) for z in start)
    optimizer = OPTIMIZERS[name]({"x": x, "y": y})
    points, losses = [], []
    for t in range(steps + 1):
        loss = SURFACES[surface](x, y).sum()
        points.append([x.data.item(), y.data.item()])
        losses.append(loss.data.item())
        x.grad = y.grad = None
        loss.backward()
        if shakes is not None and t < steps:
            x.grad = x.grad + shakes[t][0]
            y.grad = y.grad + shakes[t][1]
        optimizer.step(rate)
    return np.array(points), np.array(losses)


def test_page_opens_from_a_file_without_errors_or_requests_in_the_common_style(show):
    page = show("optimizer")
    assert len(page.all("#map .path")) == 6 and len(page.all("#map .contour")) > 5
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    style = [part((FOLDER / f"{name}.html").read_text(encoding="utf-8"), "style")
             for name in ("optimizer", "ngram")]
    assert style[0] == style[1]


def ratio(page, colour, ground):
    """The contrast of two colours as WCAG 2 has it."""
    high, low = sorted([page.luminance(colour), page.luminance(ground)], reverse=True)
    return (high + .05) / (low + .05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_can_be_read_in_both_schemes(show, scheme):
    page = show("optimizer", width=360, scheme=scheme)
    page.js("page.go(100)")
    assert page.js("return document.documentElement.scrollWidth") <= 360
    assert page.js("const box = document.querySelector('.scroll');"
                   "return box.scrollWidth <= box.clientWidth")
    paper = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (page.luminance(paper) > .8) == (scheme == "light")
    colour = """return getComputedStyle(document.querySelectorAll(arguments[0])[arguments[2] ?? 0])[
        arguments[1]]"""
    for selector in ("body", ".quiet", ".best", "#say"):
        assert ratio(page, page.js(colour, selector, "color"), paper) >= 4.5
    for i in range(6):
        ground = page.js(colour, ".badge", "backgroundColor", i)
        assert ratio(page, page.js(colour, ".badge", "color", i), ground) >= 4.5
        assert page.js(colour, "#map .path", "stroke", i) == ground
        assert ratio(page, ground, paper) >= 4.5


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(show):
    page = show("optimizer")
    controls = page.all(":is(button, input, a, #map):not([hidden])")
    assert len(controls) == 2 + 4 + 1 + 1 + 4 + 6 + 6 + 1
    assert all(control.accessible_name for control in controls)
    assert all(page.js("return arguments[0].tabIndex", control) == 0 for control in controls)
    page.press("#surface input[value='saddle']", Keys.ARROW_RIGHT)
    assert page.js("return page.state.surface") == "noisy"
    assert page.the("#noise").is_displayed()


@pytest.mark.parametrize("surface", ["bowl", "rosenbrock", "saddle"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_points_equal_pythons_at_every_step(show, name, surface):
    page = show("optimizer")
    assert page.js("return page.NAMES") == list(OPTIMIZERS)
    for start in ([-1.2, .9], [.35, -.7]):
        for rate in (RATES[name], RATES[name] / 7):
            theirs = page.js("return page.run(...arguments, 100, 1)", name, surface, rate, start)
            ours, losses = python(name, surface, rate, start, 100)
            assert np.abs(ours[100] - ours[0]).max() > .001
            for steps in (0, 1, 10, 100):
                np.testing.assert_allclose(theirs[steps], ours[steps], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(
                page.js("return arguments[1].map((p) => page.SURFACES[arguments[0]].f(...p))",
                        surface, theirs), losses, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_points_equal_pythons_under_the_same_noise(show, name):
    page = show("optimizer")
    shakes = page.js("return page.noise(5, 100, page.SURFACES.noisy.noise)")
    theirs = page.js("return page.run(...arguments, 100, 5)", name, "noisy", RATES[name], [-1, 1])
    ours, _ = python(name, "noisy", RATES[name], [-1, 1], 100, shakes)
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


def test_the_noise_is_normal_and_belongs_to_its_seed(show):
    page = show("optimizer")
    first, again, other = (np.array(page.js("return page.noise(arguments[0], 20000, 2)", seed))
                           for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < .02
    np.testing.assert_allclose(first.mean(0), 0, atol=.06)
    np.testing.assert_allclose(first.std(0), 2, rtol=.03)
    assert np.abs(np.corrcoef(first.T)[0, 1]) < .03
    assert np.mean(np.abs(first) < 2) == pytest.approx(.6827, abs=.01)


@pytest.mark.parametrize("surface", SURFACES)
def test_the_lowest_points_are_where_the_crosses_are(show, surface):
    page = show("optimizer")
    goals = page.js("return page.SURFACES[arguments[0]].goals", surface)
    x, y = np.meshgrid(np.linspace(-3, 3, 241), np.linspace(-3, 3, 241))
    height = SURFACES[surface](x, y)
    lowest = {(x[i, j], y[i, j]) for i, j in np.argwhere(height < height.min() + 1e-12)}
    assert height.min() == pytest.approx(0, abs=1e-12)
    assert {tuple(np.round(goal, 6)) for goal in goals} == {
        (round(u, 6), round(v, 6)) for u, v in lowest}


@pytest.mark.parametrize("surface", SURFACES)
def test_tuned_rates_are_the_best_of_the_slider(show, surface):
    page = show("optimizer")
    start = page.js("return page.SURFACES[arguments[0]].start", surface)
    middle = np.array(page.js("return page.SURFACES[arguments[0]].middle", surface))
    seeds = list(range(101, 109)) if surface == "noisy" else [0]
    for name in ("Momentum", "Adam"):
        paths = page.js("""const [name, surface, start, seeds] = arguments;
            return Array.from({length: 73}, (_, place) => seeds.map((seed) =>
                page.run(name, surface, page.rateAt(place), start, 100, seed)))""",
            name, surface, start, seeds)
        scores = []
        for several in paths:
            total = 0
            for path in map(np.array, several):
                stays = len(path) == 101 and (np.abs(path - middle) < [2.4, 1.8]).all()
                total += SURFACES[surface](*path[-10:].T).sum() if stays else np.inf
            scores.append(total)
        assert page.js("return page.tune(...arguments)", name, surface, start) == np.argmin(scores)


def test_the_table_and_the_sentence_tell_the_race(show):
    page = show("optimizer")
    page.press("#step", Keys.HOME)
    assert page.the("#say").text == "Everybody stands at the start. Play, or step."
    page.press("#next", Keys.ENTER)
    assert page.js("return page.state.t") == 1
    page.js("page.go(10)")
    rows = {name: cells for name, *cells in page.rows("#losses")}
    rates = page.js("return page.NAMES.map((name) => page.rateAt(page.state.places[name]))")
    final = {}
    for name, rate in zip(OPTIMIZERS, rates):
        _, losses = python(name, "bowl", rate, [-1.5, -.3], 100)
        final[name] = losses[10]
        assert rows[name][1] == rows[name][4]
        for cell, t in zip(rows[name], (1, 10)):
            shown = float(cell.split("·")[0]) * (10. ** -int("".join(
                str("⁰¹²³⁴⁵⁶⁷⁸⁹".index(c)) for c in cell.split("⁻")[1])) if "·" in cell else 1)
            assert shown == pytest.approx(losses[t], rel=.51 if "·" in cell else .06)
    best, worst = min(final, key=final.get), max(final, key=final.get)
    said = page.the("#say").text
    assert said.startswith("Step 10 of 300, each at its own rate. Lowest is " + best)
    assert f", highest {worst} (rate " in said
    assert [row.text.split()[0] for row in page.all("#losses tr:has(td:nth-child(3).best)")] == [
        best]


def test_a_rate_that_diverges_is_said_to_diverge(show):
    page = show("optimizer")
    page.press("#rate-SGD", Keys.END)
    assert "were not tuned for this race" in page.the("#tuned").text
    assert page.the("#out-SGD").text == "3.2"
    page.js("page.go(300)")
    assert page.the("#say").text.endswith("Diverged: SGD.")
    assert page.rows("#losses")[0][2:] == ["∞"] * 4 or page.rows("#losses")[0][3:] == ["∞"] * 3
    page.press("#show-SGD", " ")
    assert len(page.rows("#losses")) == 5 and len(page.all("#map .path")) == 5
    page.press("#tune", Keys.ENTER)
    assert page.the("#tuned").text.startswith("Tuned: of 73 rates")


def test_the_start_moves_by_arrow_keys_and_by_click(show):
    page = show("optimizer")
    page.press("#map", Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_UP)
    assert page.js("return page.state.start") == pytest.approx([-1.45, -.2])
    assert page.js("return page.state.paths.Adam[0]") == page.js("return page.state.start")
    page.press("#map", *[Keys.ARROW_LEFT] * 30)
    assert page.js("return page.state.start[0]") == -2.35
    page.js("""const map = document.getElementById("map"), box = map.getBoundingClientRect();
        map.dispatchEvent(new MouseEvent("click", {clientX: box.left + box.width * (240 + 50) / 480,
            clientY: box.top + box.height * (180 - 100) / 360}))""")
    assert page.js("return page.state.start") == pytest.approx([.5, 1], abs=.011)
    assert "were not tuned for this race" in page.the("#tuned").text


def test_play_step_back_and_reset(show):
    page = show("optimizer")
    page.press("#reset", Keys.ENTER)
    page.press("#play", Keys.ENTER)
    assert page.the("#play").text == "Pause"
    page.driver.execute_async_script("setTimeout(arguments[0], 400)")
    page.press("#play", Keys.ENTER)
    reached = page.js("return page.state.t")
    assert reached > 0 and page.the("#play").text == "Play"
    assert page.the("#say").text.startswith(f"Step {reached} of 300")
    page.press("#back", Keys.ENTER)
    assert page.js("return page.state.t") == reached - 1
    page.press("#reset", Keys.ENTER)
    assert page.js("return page.state.t") == 0
    page.press("#surface input[value='noisy']", " ")
    before = page.js("return page.state.paths.SGD[100]")
    page.press("#noise", Keys.ENTER)
    assert page.js("return page.state.paths.SGD[100]") != before
