"""Day 13 · The autograd page in a real browser gives the values and gradients of `Value`.

Formulas are fixed and random. Skipped, with the reason, where there is no browser; conftest.py says
what it takes.
"""

import numpy as np
import pytest

from experiments.pages import FOLDER, part
from llm.grad import dual
from llm.grad.scalar import Value, order

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

FUNCTIONS = {name: getattr(dual, name) for name in ("exp", "log", "sin", "cos", "tanh")}
FIXED = [
    ("tanh(a*b + c) * b", {"a": .5, "b": -1.5, "c": 1}),
    ("(a + b) * d", {"a": 3, "b": 2, "d": 1}),
    ("b = a + a; b + b", {"a": 3}),
    ("a / b", {"a": 3, "b": 7}),
    ("2 / a + a / 3 - 1 / 4", {"a": -.3}),
    ("-a ** 2 + (-a) ** 3 - 2 ** -1 * a ** -2", {"a": 1.7}),
    ("a ** 2 ** 3 / 10", {"a": 1.1}),
    ("5 - a - b - 1 - -a", {"a": 2, "b": .25}),
    ("log(1 + exp(-w*x))", {"w": .5, "x": 2}),
    ("sin(x)**2 + cos(x)**2 + x**0 + x**0.5", {"x": .9}),
    ("u = x*y; w = u/(u + 1); w*u - x*x", {"x": 2, "y": -3}),
    ("x", {"x": 4}),
    ("y = 2; x * y ** 3", {"x": 1.5}),
    ("1.5e-1*x + .5*x - 2.*x", {"x": 1e3}),
]


def text(values):
    """Values as one types them."""
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def python(formula, values):
    """The result as a Value."""
    names = {name: Value(value) for name, value in values.items()}
    *parts, last = formula.split(";")
    for each in parts:
        name, part_ = each.split("=")
        names[name.strip()] = eval(part_.strip(), FUNCTIONS, names)
    return eval(last.strip(), FUNCTIONS, names)


def random_formulas(n=60, seed=13):
    """Formulas of all operations with few brackets, so that precedence decides, and no trouble."""
    rng = np.random.default_rng(seed)

    def term(depth):
        kind = rng.integers(0, 9) if depth else 0
        if kind <= 1:
            return str(rng.choice(["a", "b", "c", "a", "b", "c", "2", "0.7"]))
        if kind == 2:
            return f"{rng.choice(list(FUNCTIONS))}({term(depth - 1)})"
        if kind == 3:
            return f"({term(depth - 1)}) ** {rng.choice(['2', '3', '-1', '0.5', '-2', '0', '1'])}"
        if kind == 4:
            return f"-{term(depth - 1)}"
        inner = f"{term(depth - 1)} {rng.choice(list('+-*/'))} {term(depth - 1)}"
        return f"({inner})" if rng.integers(0, 2) else inner

    found = []
    while len(found) < n:
        formula = term(5)
        values = {name: round(float(x), 2) for name, x in zip("abc", rng.uniform(-2, 2, 3))}
        try:
            result = python(formula, values)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError):
            continue
        if isinstance(result, Value) and 4 <= len(order(result)) <= 40 and len(formula) <= 200:
            result.backward()
            numbers = [x for node in order(result) for x in (node.data, node.grad, *node.slopes)]
            if all(isinstance(x, (int, float)) and abs(x) < 1e4 for x in numbers):
                found.append((formula, values))
    return found


def facts(nodes):
    """Everything about a list of Values: data, grad, slopes, places of the parents."""
    at = {id(node): i for i, node in enumerate(nodes)}
    return [(node.data, node.grad, node.slopes, [at[id(p)] for p in node.parents])
            for node in nodes]


FACTS = """(nodes) => nodes.map((node) => [node.data, node.grad, node.slopes,
    node.parents.map((parent) => nodes.indexOf(parent))])"""


def same(theirs, ours):
    """Lists of facts agree: places exactly, numbers to 1e-12."""
    assert [each[3] for each in theirs] == [each[3] for each in ours]
    flat = lambda facts: [x for data, grad, slopes, _ in facts for x in (data, grad, *slopes)]
    np.testing.assert_allclose(flat(theirs), flat(ours), rtol=1e-12, atol=1e-13)


def test_page_opens_from_a_file_without_errors_or_requests_in_the_common_style(show):
    page = show("autograd")
    assert len(page.all("#box rect")) == 7
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    style = [part((FOLDER / f"{name}.html").read_text(encoding="utf-8"), "style")
             for name in ("autograd", "ngram")]
    assert style[0] == style[1]


def ratio(page, colour, ground):
    """The contrast of two colours as WCAG 2 has it."""
    high, low = sorted([page.luminance(colour), page.luminance(ground)], reverse=True)
    return (high + .05) / (low + .05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_can_be_read_in_both_schemes(show, scheme):
    page = show("autograd", width=360, scheme=scheme)
    page.js("page.put('tanh(rather*longish + names) * longish', 'rather=1, longish=2, names=3')")
    page.js("page.go(99)")
    assert page.js("return document.documentElement.scrollWidth") <= 360
    assert page.js("const box = document.getElementById('box');"
                   "return box.scrollWidth > box.clientWidth && box.scrollLeft === 0")
    paper = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (page.luminance(paper) > .8) == (scheme == "light")
    colour = """return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"""
    for selector in ("body", ".quiet", "#error", "td.gradient", "#say"):
        assert ratio(page, page.js(colour, selector, "color"), paper) >= 4.5
    for box in ("#box g:not(.now) rect", "#box .now rect"):
        ground = page.js(colour, box, "fill")
        for selector in (".name", ".small", ".gradient"):
            ink = page.js(colour, f"#box {selector}", "fill")
            assert ratio(page, ink, ground) >= 4.5
    assert ratio(page, page.js(colour, "#box .slope", "fill"), paper) >= 4.5


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(show):
    page = show("autograd")
    controls = page.all(":is(button, input, a, #box):not([hidden])")
    assert len(controls) == 5 + 5 + 3 + 1 + 1
    assert all(control.accessible_name for control in controls)
    assert all(control.get_property("tabIndex") == 0 for control in controls)


def test_values_slopes_gradients_and_order_equal_pythons(show):
    page = show("autograd")
    for formula, values in FIXED + random_formulas():
        result = python(formula, values)
        result.backward()
        theirs = page.js(f"""const nodes = page.build(...arguments);
            page.backward(nodes, nodes.length + 1); return ({FACTS})(nodes)""",
            formula, text(values))
        same(theirs, facts(order(result)))


@pytest.mark.parametrize("formula, values", [FIXED[0], FIXED[2], FIXED[10]])
def test_every_step_visits_the_node_that_python_visits(show, formula, values):
    page, nodes = show("autograd"), order(python(formula, values))
    page.js("page.put(...arguments)", formula, text(values))
    now = "return page.state.nodes.indexOf(page.state.now)"
    assert page.js(now) == -1
    for i in range(len(nodes)):
        page.press("#next", Keys.ENTER)
        assert page.js(now) == i
        assert [cells[2] != "" for cells in page.rows("#nodes")] == [j <= i
                                                                     for j in range(len(nodes))]
    page.press("#next", Keys.ENTER)
    nodes[-1].grad = 1.0
    for i, node in reversed(list(enumerate(nodes))):
        same(page.js(f"return ({FACTS})(page.state.nodes)"), facts(nodes))
        page.press("#next", Keys.ENTER)
        assert page.js(now) == i
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad += slope * node.grad
        same(page.js(f"return ({FACTS})(page.state.nodes)"), facts(nodes))
    assert page.the("#say").text.endswith("The walk is over: every gradient is complete.")


def test_the_sentence_says_what_a_step_did(show):
    page = show("autograd")
    page.js("page.put('a*b + b', 'a = 3, b = 2')")     # the list is b, a, v1, v2
    said = []
    for _ in range(9):
        page.press("#next", Keys.ENTER)
        said.append(page.the("#say").text)
    assert said[0] == "b is a leaf, a number nobody computed: 2."
    assert said[2] == ("v1 = a · b = 3 · 2 = 6. It keeps the local slopes 2 along the arrow from a "
                       "and 3 along the arrow from b.")
    assert said[4].startswith("Turn round. The result v2 moves as fast as itself")
    assert said[5] == ("v2 is complete, with gradient 1. v1 gets 1 · 1 = 1, its first share. "
                       "b gets 1 · 1 = 1, its first share.")
    assert said[6] == ("v1 is complete, with gradient 1. a gets 2 · 1 = 2, its first share. "
                       "b gets 3 · 1 = 3; it had 1, so it accumulates 4.")
    assert said[8].startswith("b is a leaf and hands nothing on. All 2 arrows out of it have paid: "
                              "its gradient is 4.")
    page.js("page.put('a + a', 'a = 3'); page.go(4)")
    assert page.the("#say").text.endswith("a gets 1 · 1 = 1, its first share. "
                                          "a gets 1 · 1 = 1; it had 1, so it accumulates 2.")
    page.js("page.put('tanh(-a)', 'a = -1'); page.go(2)")
    assert page.the("#say").text.startswith("v1 = −a = −(−1) = 1.")
    page.js("page.put('tanh(a) / 2', 'a = -1'); page.go(2)")
    assert page.the("#say").text.startswith("v1 = tanh(a) = tanh(−1) = −0.7616.")


def test_steps_by_keys_and_buttons(show):
    page = show("autograd")
    step = lambda: page.js("return page.state.step")
    page.press("body", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert step() == 1
    page.press("#box", Keys.END)
    assert step() == 15
    page.press("#last", Keys.HOME, Keys.ARROW_LEFT)
    assert step() == 0
    page.press("#formula", Keys.ARROW_RIGHT)
    assert step() == 0
    for button, wanted in [("last", 15), ("next", 15), ("back", 14), ("turn", 8), ("first", 0)]:
        page.press(f"#{button}", Keys.ENTER)
        assert step() == wanted
    page.press("#step", Keys.ARROW_RIGHT)
    assert step() == 1
    page.press("#examples button:nth-child(3)", Keys.ENTER)
    assert page.js("return page.state.nodes.map(({name}) => name)") == ["a", "b", "v1"]


@pytest.mark.parametrize("formula, values, message", [
    ("a + d", "a = 1", "Unknown name d: add d = 1 to the values."),
    ("sqrt(a)", "a = 1", "Unknown function sqrt: there are exp, log, sin, cos, tanh."),
    ("a / b", "a = 1, b = 0", "Division by zero: the divisor, b, is 0."),
    ("a / 0", "a = 1", "Division by zero: the divisor is 0."),
    ("a ** 0.5", "a = 0", "Division by zero: the slope of 0 ** 0.5 has no bound."),
    ("a ** -1", "a = 0", "Division by zero: 0 ** −1."),
    ("log(a)", "a = -2", "Log of a negative number: what it gets, a, is −2, and log wants more "
                         "than 0."),
    ("log(a - a)", "a = 2", "Log of zero: what it gets is 0, and log wants more than 0."),
    ("a ** b", "a = 1, b = 2", "An exponent must be a plain number: for x ** y write "
                               "exp(y * log(x))."),
    ("a ** 0.5", "a = -4", "(−4) ** 0.5 is not a real number: only a whole power of a negative "
                           "number is."),
    ("exp(a)", "a = 1000", "A value or slope of exp is too large for a float64: choose smaller "
                           "values."),
    ("a * 1e200 * 1e200", "a = 1", "A value or slope of · is too large for a float64: choose "
                                   "smaller values."),
    ("1 + 2", "a = 1", "3 is a plain number: use a name, or nothing can move."),
    ("a ^ 2", "a = 1", "For a power write **, not ^."),
    ("a $ 2", "a = 1", "The sign $ has no meaning here."),
    ("(a + 1", "a = 1", ") is missing at the end."),
    ("a 2", "a = 1", "An operation is missing before 2."),
    ("a +", "a = 1", "The formula ends too early."),
    ("* a", "a = 1", "A number or a name must stand before or in place of *."),
    ("tanh", "a = 1", "The function tanh wants a number in brackets: tanh(x)."),
    ("a", "a = one", "The value of a is one, which is not a number."),
    ("a", "a", "The values are written a = 2, b = -1, but one is a."),
    ("a", "a = 1, a = 2", "The name a has two values."),
    ("ninechars + a", "a = 1, ninechars = 2", "The name ninechars is too long: at most 8 "
                                              "characters."),
    ("a = 2; a", "a = 1", "The name a has a value already: choose another."),
    ("exp = a; a", "a = 1", "The name exp is that of a function: choose another."),
    ("", "a = 1", "Type a formula first."),
    ("+".join("a" * 60), "a = 1", "60 nodes: the picture has room for 40."),
])
def test_an_error_is_one_clear_line_and_leaves_the_last_picture(show, formula, values, message):
    page = show("autograd")
    page.js("page.put(...arguments)", formula, values)
    assert page.the("#error").text == message
    assert page.all("#result.stale") and len(page.all("#box rect")) == 7
    page.js("page.put('a', 'a = 1')")
    assert page.the("#error").text == "" and not page.all("#result.stale")


def test_typing_is_read_at_once(show):
    page = show("autograd")
    page.press("#formula", Keys.END, " + a")
    assert page.js("return page.state.nodes.length") == 8 and page.the("#error").text == ""
    page.press("#values", Keys.END, "q")
    assert page.the("#error").text == "The value of c is 1q, which is not a number."


def test_boxes_stay_apart_and_within_the_picture(show):
    page = show("autograd")
    for formula, values in FIXED + random_formulas(20, seed=14):
        page.js("page.put(...arguments)", formula, text(values))
        width, height, boxes, arrows = page.js("""
            const number = (x, key) => Number(x.getAttribute(key)), svg = document.querySelector(
              "#box svg");
            return [number(svg, "width"), number(svg, "height"),
              [...svg.querySelectorAll("rect")].map((box) => [number(box, "x"), number(box, "y")]),
              svg.querySelectorAll(".edge").length]""")
        nodes = order(python(formula, values))
        assert len(boxes) == len(nodes)
        assert arrows == sum(len(node.parents) for node in nodes)
        for i, (x, y) in enumerate(boxes):
            assert 0 <= x <= width - 104 and 0 <= y <= height - 78
            assert all(abs(x - u) >= 104 or abs(y - v) >= 78 for u, v in boxes[:i])
