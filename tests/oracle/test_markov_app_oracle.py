"""Day 08 · The marimo app of notes/interactive/markov.py: its functions, and the app as a whole."""

import importlib.util

import numpy as np
import pytest

from days.tools.data import course

pytest.importorskip("marimo", reason="the app needs pip install marimo")
pytestmark = pytest.mark.filterwarnings("default")      # marimo's own warnings are not ours
TEXT = "to be or not to be, that is the question: whether it is nobler to be. " * 4


@pytest.fixture(scope="module")
def markov():
    path = course.ROOT / "notes" / "interactive" / "markov.py"
    spec = importlib.util.spec_from_file_location("markov_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_app_offers_every_smoothing_of_day_06(markov):
    from llm.models.smoothing import SMOOTHINGS
    assert set(markov.SMOOTHINGS.values()) == set(SMOOTHINGS)


@pytest.mark.parametrize("order", [1, 3, 8])
@pytest.mark.parametrize("smoothing", ["kneser-ney", "add-k"])
def test_the_logits_are_those_of_day_06(markov, order, smoothing):
    tokenizer, model = markov.fitted(TEXT, order, smoothing)
    ids = tokenizer.encode("that is to b")
    np.testing.assert_allclose(np.exp(markov.next_logits(model, ids)),
                               model.distribution(ids[len(ids) - order + 1:]))
    whole = [markov.next_logits(model, ids[:t])[ids[t]] for t in range(len(ids))]
    np.testing.assert_allclose(whole, model.log_probabilities(ids))


def test_temperature_zero_writes_the_likeliest_whatever_the_dice(markov):
    tokenizer, model = markov.fitted(TEXT, 6, "kneser-ney")
    pages = {markov.written(tokenizer, model, "to be", 60, 0, seed) for seed in range(3)}
    assert len(pages) == 1
    assert markov.likeliest(tokenizer, model, "to be", 0)[0][0] == pages.pop()[0]


def test_the_same_dice_write_the_same_page_and_other_dice_another(markov):
    tokenizer, model = markov.fitted(TEXT, 2, "kneser-ney")
    page = markov.written(tokenizer, model, "to", 80, 1.0, 1)
    assert len(page) == 80
    assert page == markov.written(tokenizer, model, "to", 80, 1.0, 1)
    assert page != markov.written(tokenizer, model, "to", 80, 1.0, 2)


def test_heat_flattens_and_the_likeliest_come_first(markov):
    tokenizer, model = markov.fitted(TEXT, 4, "kneser-ney")
    cold, hot = (markov.likeliest(tokenizer, model, "to b", t, 99) for t in (.5, 2))
    assert cold[0][1] > hot[0][1]
    for bars in (cold, hot):
        assert [p for _, p in bars] == sorted((p for _, p in bars), reverse=True)
        assert sum(p for _, p in bars) == pytest.approx(1)


def test_characters_the_model_has_never_seen_are_left_out(markov):
    tokenizer, model = markov.fitted(TEXT, 3, "kneser-ney")
    assert markov.known(tokenizer, "tö be§") == "t be"
    assert len(markov.written(tokenizer, model, "§", 5, 1.0, 0)) == 5


def test_the_app_runs_and_every_cell_has_what_it_needs(markov, monkeypatch):
    from types import SimpleNamespace
    monkeypatch.setattr(markov, "load_or_default", lambda source: SimpleNamespace(text=TEXT))
    outputs, values = markov.app.run()
    assert len(values["text"]) > 100 and values["model"].order == 5
    assert any("ROMEO" in str(getattr(output, "text", "")) for output in outputs)
