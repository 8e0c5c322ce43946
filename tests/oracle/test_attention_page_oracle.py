"""Day 35 · The page on attention: its weights and probabilities are those of the package's GPT.

The browser's part is skipped, with the reason, where there is no browser; conftest.py says what it
takes. What the page computes is compared with day 34's GPT, given the weights that the page holds.
"""

from dataclasses import asdict

import numpy as np
import pytest

from days import __main__ as cli
from days.day35 import job, kept
from days.day35.trained import Recipe, trained
from days.harness import UsageError
from experiments import attention_page as script
from experiments.pages import fill
from llm.data.text import Corpus, TextError, load
from llm.functions.heads import multi_head
from llm.functions.probability import softmax
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.chars import CharTokenizer
from llm.train.snapshot import load_snapshot, save_snapshot

LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"      # keys, as WebDriver has them
ODD = "ab é中👂\n<>&'\"/\\ ␣⏎"
TEXTS = ["", "a", "\n", " ", "ROMEO.\nBut, soft! what light", "to be, or not to be, that",
         "naïve façade 中文 👂🏽", "  two  spaces\n\n  and lines \n", "don't I'LL 1600 0 -- ...",
         "x" * 60, "\u0085\ufeff\u00a0\u2028 a", "The train to Oxford leaves at noon."]


def state_of(text, seed=0):
    """A small model of characters, untrained, with weights that are no round numbers."""
    state = job.assemble(job.Recipe.small(), CharTokenizer.from_text(text),
                         np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    for array in state.model.state_dict().values():
        array += rng.normal(0, .1, array.shape).astype(np.float32)
    return state


@pytest.fixture(scope="module")
def kept_model(tmp_path_factory):
    """The file of a model of characters, with what `run.py` of day 35 keeps of a model."""
    path, state = tmp_path_factory.mktemp("kept") / "gpt-odd.npz", state_of(ODD * 5)
    save_snapshot(path, state.model, state.optimizer, state.rng,
                  {"recipe": asdict(state.recipe), "characters": state.tokenizer.characters})
    return path


@pytest.fixture(scope="module")
def page_of_it(kept_model):
    """The page that `python -m days pages` makes of that file."""
    path = kept_model.with_suffix(".html")
    assert cli.main(["pages", "--model", str(kept_model), "--out", str(path)]) == 0
    return path


def model_of(page):
    """(day 34's GPT, its tokenizer) with the weights of a page, multiplied out."""
    data = script.held(page)
    state = script.unpack(data)
    about = {key: data[key] for key in ("characters", "merges") if data[key] is not None}
    if "merges" in about:
        about["merges"] = np.reshape(about["merges"], (-1, 2))
    return script.assemble(data["config"], state), script.tokenizer_of(about, state)


def attention_of(model, ids):
    """weights (L, H, T, T) and probabilities (T, V) for ids (T,)."""
    weights = []
    with no_grad():
        x = model.embed(np.array([ids]))
        for block in model.blocks:
            layer = block.mix.inner
            qkv = layer.qkv(block.mix.norm(x)).data
            weights.append(multi_head(qkv, layer.H, layer.rule)[1][3][0])
            x = block(x)
        return np.array(weights), softmax(model.logits(model.norm(x)).data[0])


# ---- The page as a file --------------------------------------------------------------------------


def test_a_row_of_127ths_is_packed_exactly_and_unpacked():
    state = {"embed.table": np.array([[127., -64, 0], [0, 0, 0]], np.float32) / 127,
             "b.w": np.array([[2., 0], [-1, 254]], np.float32), "b.b": np.array([.3], np.float32)}
    whole, floats, arrays = script.pack(state)
    assert whole.tolist() == [127, -64, 0, 0, 0, 0, 127, 0, -64, 127]       # −63.5 rounds to even
    np.testing.assert_allclose(floats, [1 / 127, 1, 2 / 127, 2, .3], rtol=1e-6)
    assert arrays == [["embed.table", 2, 3], ["b.w", 2, 2], ["b.b", 1, 0]]


def test_unpacked_weights_are_off_by_half_a_step_at_most_and_vectors_by_nothing():
    state = state_of("abc" * 99).model.state_dict()
    data = dict(zip(("whole", "floats", "arrays"), script.pack(state)))
    found = script.unpack({**data, **{k: script.as_text(data[k]) for k in ("whole", "floats")}})
    assert list(found) == list(state)
    for name, array in state.items():
        if array.ndim == 1:
            np.testing.assert_array_equal(found[name], array)
            continue
        step = np.abs(array).max(axis=int(name == "embed.table"), keepdims=True) / 127
        assert np.all(np.abs(found[name] - array) <= .5001 * step)
        assert np.any(found[name] != array)


def test_rounding_hardly_moves_a_trained_models_attention():
    reader = trained(fast=True)
    rounded = GPT(reader.config, np.random.default_rng(0))
    packed = script.data(script.Opened("", reader.model, reader.tokenizer))
    rounded.load_state_dict(script.unpack(packed))
    ids = reader.tokenizer.encode(reader.corpus.validation[:200])[:reader.config.T]
    for ours, theirs in zip(attention_of(rounded, ids), attention_of(reader.model, ids)):
        assert np.abs(ours - theirs).max() < .05 and not np.array_equal(ours, theirs)


def test_the_courses_page_is_the_template_with_a_model_of_day_35s_recipe():
    page = script.PAGE.read_text(encoding="utf-8")
    data, recipe = script.held(), asdict(Recipe())
    assert data["config"] == {key: recipe[key] for key in "VTCLH"}
    model, _ = model_of(script.PAGE)
    assert f"{model.count_parameters():,}" == "434,016"
    assert len(page.encode()) < 1_500_000


def test_the_courses_page_holds_a_model_that_has_learned():
    try:
        corpus = load("shakespeare", lambda line: None)
    except TextError as error:
        pytest.skip(str(error))
    model, tokenizer = model_of(script.PAGE)
    text = corpus.text[-20_000:]
    ids = tokenizer.encode(text)[:40 * 128 + 1].astype(np.int64)
    with no_grad():
        nats = float(model.loss(ids[:-1].reshape(40, 128), ids[1:].reshape(40, 128)).data)
    per_character = nats * (len(ids) - 1) / len(tokenizer.decode(ids[1:]))
    assert per_character < 1.6           # one that has not learned pays about ln 84 = 4.4


def test_without_a_file_the_courses_own_model_goes_in_and_the_template_stays(monkeypatch, tmp_path):
    page = tmp_path / "attention.html"
    page.write_bytes(script.PAGE.read_bytes())
    monkeypatch.setattr(script, "PAGE", page)
    model = state_of("ab" * 300)
    monkeypatch.setattr(script, "trained", lambda: model)
    assert script.make() == 0
    assert script.held(page)["characters"] == "ab"
    made, course = (fill(p.read_text(encoding="utf-8"), "data", "")
                    for p in (page, script.FOLDER / "attention.html"))
    assert made == course


def test_a_kept_model_takes_the_courses_ones_place_and_we_are_told_how_to_undo_it(
        monkeypatch, tmp_path, kept_model, capsys):
    page = tmp_path / "attention.html"
    page.write_bytes(script.PAGE.read_bytes())
    monkeypatch.setattr(script, "PAGE", page)
    assert script.make(kept_model) == 0
    assert script.held(page)["name"] == "gpt-odd"
    said = capsys.readouterr().err
    assert "attention.html" in said and "`python -m days pages` puts the course's own" in said
    script.make(kept_model, tmp_path / "other.html")
    assert "puts the course's own" not in capsys.readouterr().err


def test_a_readers_gpt_of_byte_pairs_is_taken_too(tmp_path):
    reader = trained(fast=True)
    about = {"recipe": asdict(reader.recipe), "merges": reader.tokenizer.merges[:, :2].tolist()}
    found = script.restore(saved(tmp_path / "pairs.npz", reader.model, about))
    assert found.name == "pairs" and found.tokenizer.vocab_size == 300
    np.testing.assert_array_equal(found.model.embed.table.data, reader.model.embed.table.data)
    state = job.build(Corpus("odd", ODD * 40), job.Recipe.small(), 0)       # as `run.py` keeps it
    kept.keep(tmp_path / "run.npz", state, 3, 1.0)
    found = script.restore(tmp_path / "run.npz")
    assert list(found.tokenizer.encode(ODD)) == list(state.tokenizer.encode(ODD))
    np.testing.assert_array_equal(found.model.embed.table.data, state.model.embed.table.data)


def saved(path, model, about):
    """A snapshot of this model, its optimizer without moments."""
    class Nothing:
        def state_dict(self):
            return {}
    save_snapshot(path, model, Nothing(), np.random.default_rng(0), about)
    return path


def gpt(**changes):
    """(model, what a snapshot says about it), small."""
    shape = {"V": 4, "T": 8, "C": 8, "L": 1, "H": 2, **changes}
    return (GPT(GPTConfig(**shape, rotary=True), np.random.default_rng(0)),
            {"recipe": {"T": shape["T"], "H": shape["H"]}, "characters": "abcd"})


def infinite():
    model, about = gpt()
    model.norm.gain.data[3] = np.inf
    return model, about


WRONG = {
    "lacks 'recipe'": lambda: (gpt()[0], {"characters": "abcd"}),
    "lacks 'merges'": lambda: (gpt()[0], {"recipe": {"T": 8, "H": 2}}),
    "lacks 'T'": lambda: (gpt()[0], {"recipe": {"H": 2}, "characters": "abcd"}),
    "3 tokens, but 4 embeddings": lambda: (gpt()[0], {**gpt()[1], "characters": "abc"}),
    "3 heads do not divide 8": lambda: (gpt()[0], {**gpt()[1], "recipe": {"T": 8, "H": 3}}),
    "2,000 tokens, and a page shows 1,024": lambda: gpt(T=2000),
    "not all of its weights are numbers": infinite,
    "state does not fit this model": lambda: (GPT(GPTConfig(4, 8, 8, 1, 2),
                                                  np.random.default_rng(0)), gpt()[1]),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_model_of_another_kind_is_refused_with_its_reason_and_the_cure(tmp_path, reason):
    path = saved(tmp_path / "wrong.npz", *WRONG[reason]())
    with pytest.raises(UsageError) as caught:
        script.make(path, tmp_path / "page.html")
    assert reason in str(caught.value) and "another kind of model" in str(caught.value)
    assert "python -m days run 35" in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_model_that_a_page_has_no_room_for_is_refused_with_its_size(tmp_path, monkeypatch):
    path = saved(tmp_path / "large.npz", *gpt())
    count = sum(array.size for array in load_snapshot(path)[1].values())
    monkeypatch.setattr(script, "WEIGHTS", count - 1)
    with pytest.raises(UsageError, match=rf"{count:,} weights, .* {count - 1:,}; give a smaller"):
        script.make(path, tmp_path / "page.html")
    monkeypatch.setattr(script, "WEIGHTS", count)
    assert script.make(path, tmp_path / "page.html") == 0


def test_what_is_no_model_or_no_page_gets_one_line_and_status_2(tmp_path, kept_model, capsys):
    (tmp_path / "text.npz").write_text("no model")
    for flags, reason in [
            (["--model", str(tmp_path / "none.npz")], "there is no model"),
            (["--model", str(tmp_path)], "there is no model"),
            (["--model", str(tmp_path / "text.npz")], "damaged or no model of day 35"),
            (["--model", str(kept_model), "--out", str(kept_model)], "a name that ends in .html"),
            (["--model", str(kept_model), "--out", str(tmp_path / "no" / "p.html")],
             "Choose another --out")]:
        assert cli.main(["pages", *flags]) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1
    assert script.restore(kept_model).name == "gpt-odd"          # --out did not touch it


def test_in_a_tree_without_the_page_the_command_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.main(["pages"]) == 2
    assert "day 35 is not in this tree" in capsys.readouterr().err


# ---- The page in a browser -----------------------------------------------------------------------


@pytest.fixture
def pages(show, page_of_it):
    """{name: opens it}: the course's page, and the one of the kept model."""
    return {"course": lambda **options: show("attention", **options),
            "kept": lambda **options: show(page_of_it.with_suffix(""), **options)}


PATHS = {"course": lambda made: script.PAGE, "kept": lambda made: made}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_asks_for_nothing_and_can_be_read_in_both_schemes(pages, name, scheme):
    page = pages[name](width=360, scheme=scheme)
    assert page.js("return document.documentElement.scrollWidth") <= 360
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    paper, ink, quiet = page.js("""
        const style = (selector) => getComputedStyle(document.querySelector(selector));
        return [style("body").backgroundColor, style("body").color, style(".quiet").color]""")
    assert (page.luminance(paper) > .8) == (scheme == "light")
    assert (page.luminance(paper) < .05) == (scheme == "dark")
    colours = [(paper, ink), (paper, quiet)]
    for head in range(page.js("return page.state.tokens[0].weights[0].length")):
        colours += page.js("""
            page.chooseHead(0, arguments[0]);
            return [...document.querySelectorAll(".piece:not(.later)")].map((piece) =>
                [getComputedStyle(piece).backgroundColor, getComputedStyle(piece).color])""", head)
    for pair in colours:            # WCAG 2, level AA
        low, high = sorted(map(page.luminance, pair))
        assert (high + .05) / (low + .05) >= 4.5, pair


@pytest.mark.parametrize("name", PATHS)
def test_every_control_has_a_name_and_is_reached_by_the_keyboard(pages, name):
    page = pages[name]()
    controls = page.all(":is(button, input, select, textarea, a):not([hidden])")
    assert len(controls) > 12
    assert all(control.accessible_name for control in controls)
    assert all(control.get_property("tabIndex") == 0 for control in controls)
    pieces = page.all(".piece")
    assert [piece.get_property("tabIndex") for piece in pieces].count(0) == 1
    assert all(piece.accessible_name for piece in pieces)


@pytest.mark.parametrize("name", PATHS)
def test_attention_and_probabilities_are_the_packages_on_any_text(pages, page_of_it, name):
    page, (model, tokenizer) = pages[name](), model_of(PATHS[name](page_of_it))
    known = set(getattr(tokenizer, "characters", "")) or None
    for text in [*TEXTS, ODD, ODD[::-1], "a"]:
        ours = text if known is None else "".join(c for c in text if c in known)
        ids = tokenizer.encode(ours)[-model.config.T:]
        found = page.js("""
            const ids = page.tokenizer.encode(arguments[0]).slice(-arguments[1]);
            return {ids, tokens: page.readAll(ids).map(({weights, p}) => ({
                weights: weights.map((layer) => layer.map((row) => [...row])), p: [...p]}))}""",
            text, model.config.T)
        assert found["ids"] == ids.tolist(), text
        if not len(ids):
            continue
        weights, p = attention_of(model, ids)
        for t, token in enumerate(found["tokens"]):
            np.testing.assert_allclose(token["weights"], weights[:, :, t, :t + 1], atol=2e-5)
            np.testing.assert_allclose(token["p"], p[t], atol=2e-5)
            np.testing.assert_allclose(np.sum(token["weights"], axis=-1), 1, atol=1e-5)
        assert len(found["tokens"]) == len(ids)


def test_what_is_kept_of_an_edited_text_changes_no_number(pages):
    page, (model, _) = pages["course"](), model_of(script.PAGE)
    rng = np.random.default_rng(35)
    ids = rng.integers(0, model.config.V, 30)
    for changed in (30, 29, 10, 0, 30, 17):            # from this token on
        ids = np.concatenate([ids[:changed], rng.integers(0, model.config.V, 24 - changed // 2)])
        last = page.js("""const tokens = page.readAll(arguments[0]);
            return [tokens.length, [...tokens.at(-1).p]]""", ids.tolist())
        assert last[0] == len(ids)
        np.testing.assert_allclose(last[1], attention_of(model, ids)[1][-1], atol=2e-5)


def shown(p):
    """A probability as the page writes it."""
    return "< 0.1 %" if 0 < p < .0005 else f"{100 * p:.1f} %"


def test_heads_and_tokens_are_chosen_by_keys_and_what_is_shown_is_pythons(pages):
    page, (model, tokenizer) = pages["course"](), model_of(script.PAGE)
    text = "To be, or not to be, that is"
    page.write(text)
    ids = tokenizer.encode(text)
    weights, p = attention_of(model, ids)
    assert page.js("return [page.state.at, page.state.ids.length]") == [len(ids) - 1, len(ids)]
    layer, head = page.js("return [page.state.layer, page.state.head]")
    page.press("#heads input:checked", LEFT)
    before = (3 * layer + head - 1) % 9
    layer, head = divmod(before, 3)
    assert page.js("return [page.state.layer, page.state.head]") == [layer, head]
    page.press(".piece[aria-selected=true]", HOME)
    assert page.bars() == [(f"{tokenizer.decode(ids[:1])} itself", "100.0 %")]
    page.press(".piece[aria-selected=true]", END, LEFT, LEFT)
    at = len(ids) - 3
    assert page.the(".piece[aria-selected=true]") == page.driver.switch_to.active_element
    row = weights[layer, head, at, :at + 1]
    best = np.argsort(-row, kind="stable")[:7]
    names = [tokenizer.decode([int(i)]).replace(" ", "␣") for i in ids]
    away = lambda s: {0: "itself", 1: "1 back"}.get(at - s, f"{at - s} back")
    bars = page.bars()
    assert [number for _, number in bars[:7]] == [shown(row[s]) for s in best]
    assert {name for name, _ in bars[:7]} == {f"{names[s]} {away(s)}" for s in best}
    assert bars[7][0] == f"{at + 1 - 7} others" and len(bars) == 8
    facts, seen = page.rows("#facts"), weights[layer, head]
    distance = lambda t: float(seen[t, :t + 1] @ (t - np.arange(t + 1)))
    number = lambda t: 1 / float((seen[t] ** 2).sum())
    mean = lambda f: np.mean([f(t) for t in range(2, len(ids))])
    for line, f, write in zip(facts, (lambda t: seen[t, t], lambda t: seen[t, t - 1],
                                      lambda t: seen[t, 0], distance, number),
                              (shown, shown, shown, "{:.1f}".format, "{:.1f}".format)):
        assert line[1:] == [write(f(at)), write(mean(f))], line[0]
    guesses = page.js("""return [...document.querySelectorAll("#guesses li")].map((line) =>
        [line.firstChild.innerText, line.firstChild.classList.contains("true"),
         line.lastChild.innerText])""")
    assert guesses[0][2] == shown(p[at].max())
    assert [g for g in guesses if g[1]] == [[names[at + 1], True, shown(p[at, ids[at + 1]])]]


def test_the_upper_half_of_every_picture_is_empty_and_the_lower_half_is_not(pages):
    page = pages["course"]()
    n = page.js("return page.state.ids.length")
    copied = """const read = (canvas) => {
            const copy = document.createElement("canvas"), {width, height} = canvas;
            const pen = copy.getContext("2d", {willReadFrequently: true});
            Object.assign(copy, {width, height});
            pen.drawImage(canvas, 0, 0);
            return (x, y, ...size) => pen.getImageData(x * width, y * height, ...size).data;
        };"""
    for alpha in page.js(copied + """
            return [...document.querySelectorAll(".head canvas")].map((canvas) =>
                [...read(canvas)(0, 0, canvas.width, canvas.height)].filter((_, i) =>
                    i % 4 === 3))"""):
        np.testing.assert_array_equal(np.reshape(alpha, (n, n)) > 0, np.tri(n, dtype=bool))
    empty, full = page.js(copied + """
        const at = read(document.getElementById("triangle"));
        return [at(.6, .05, 1, 1)[3], at(.05, .6, 1, 1)[3]]""")
    assert (empty, full) == (0, 255)


def test_a_caption_names_the_habit_with_the_largest_share(pages):
    page, (model, _) = pages["course"](), model_of(script.PAGE)
    ids = np.array(page.js("return page.state.ids"))
    weights, _ = attention_of(model, ids)
    t = np.arange(2, len(ids))
    for caption, w in zip(page.all(".habit"), weights.reshape(-1, len(ids), len(ids))):
        shares = {"itself": w[t, t].mean(), "one before": w[t, t - 1].mean(),
                  "first": w[t, 0].mean()}
        name = max(shares, key=shares.get)
        assert caption.text == f"{100 * shares[name]:.0f} % {name}"
    first = page.js("return 3 * page.state.layer + page.state.head")
    back = weights[..., t, t - 1].mean(-1).ravel()
    assert first == back.argmax()


def test_a_click_on_a_row_of_the_triangle_chooses_its_token(pages):
    page = pages["course"]()
    n = page.js("return page.state.ids.length")
    for share, token in ((.02, 0), (.5, n // 2), (.99, n - 1)):
        page.js("""const {left, top, width, height} = triangle.getBoundingClientRect();
            triangle.dispatchEvent(new MouseEvent("click", {clientX: left + .1 * width,
                clientY: top + arguments[0] * height}))""", share)
        assert page.js("return page.state.at") == token


def test_a_long_text_loses_its_beginning_and_an_empty_one_shows_nothing(pages):
    page = pages["course"]()
    page.press("#clear", "\ue007")
    assert page.all(".piece") == [] and page.bars() == []
    assert page.the("#where").text == "Nothing looks anywhere yet"
    page.js("""document.getElementById("text").value = "the ".repeat(300);
               document.getElementById("text").oninput()""")
    page.press("#text", END)
    assert page.js("return [page.state.ids.length, page.state.tokens.length]") == [128, 128]
    cut = len(model_of(script.PAGE)[1].encode("the " * 300)) - 128
    assert f"The first {cut} of this text are left out" in page.the("#remarks").text


def test_characters_that_the_kept_model_never_learned_are_named(pages):
    page = pages["kept"]()
    page.write("aXb")
    assert "never learned X, so it is left out" in page.the("#remarks").text
    assert [piece.text for piece in page.all(".piece")] == ["a", "b"]
    page.write("XYa")
    assert "never learned X Y, so they are left out" in page.the("#remarks").text
    page.write("a")
    assert page.the("#remarks").text == "" and page.bars() == [("a itself", "100.0 %")]


def test_a_name_that_looks_like_html_is_shown_as_it_is(show, tmp_path):
    name, model = "</script><b>x</b>", state_of(ODD * 5)
    path = tmp_path / "named.html"
    path.write_text(script.fresh(script.Opened(name, model.model, model.tokenizer)), "utf-8")
    assert name in show(path.with_suffix("")).the("#source").text


def test_colours_follow_a_change_of_scheme(pages):
    page = pages["course"](scheme="light")
    drawn = """return document.querySelector(".head canvas").toDataURL()"""
    light = page.js(drawn)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    page.press("#text", END)
    assert page.js(drawn) != light
