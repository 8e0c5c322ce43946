"""Day 08 · Order, smoothing and temperature, and the text they write: a marimo app.

    python -m pip install marimo
    python -m marimo run notes/interactive/markov.py

The models are those of day 06, counted on Shakespeare; the temperature is that of day 08. Left
out: the loss on new text, which day 06 measures and ngram.html (beside this file) shows.
"""

import marimo

app = marimo.App(width="medium", app_title="Order, smoothing, temperature")

with app.setup:
    import html

    import marimo as mo
    import numpy as np

    from llm.data.text import load_or_default
    from llm.generate.sample import sample, tempered
    from llm.models.ngram import NGram
    from llm.tokens.chars import CharTokenizer

    SMOOTHINGS = {"Kneser–Ney": "kneser-ney", "absolute discounting": "absolute",
                  "interpolation": "interpolated", "back-off": "backoff", "add-k": "add-k"}


@app.function
def fitted(text, order, smoothing):
    """(tokenizer, model of day 06) counted on a text."""
    tokenizer = CharTokenizer.from_text(text)
    return tokenizer, NGram.fit(tokenizer.encode(text), order, tokenizer.vocab_size, smoothing)


@app.function
def next_logits(model, ids):
    """ln P of each next token after ids (T,), of which the model sees the last order − 1: (V,)."""
    recent = np.asarray(ids[max(len(ids) - model.order + 1, 0):], np.int64)
    return np.log(model.distribution(recent))


@app.function
def known(tokenizer, text):
    """The text without characters that the model has never seen."""
    return "".join(c for c in text if c in tokenizer.characters)


@app.function
def written(tokenizer, model, prompt, length, temperature, seed):
    """`length` characters after the prompt, drawn at a temperature; a seed gives one text."""
    rng, ids = np.random.default_rng(seed), list(tokenizer.encode(known(tokenizer, prompt)))
    start = len(ids)
    for _ in range(length):
        ids.append(int(sample(next_logits(model, ids), rng, temperature)))
    return tokenizer.decode(ids[start:])


@app.function
def likeliest(tokenizer, model, prompt, temperature, count=12):
    """[(character, probability)] of the `count` likeliest next characters, likeliest first."""
    p = tempered(next_logits(model, tokenizer.encode(known(tokenizer, prompt))), temperature)
    best = np.argsort(-p, kind="stable")[:count]
    return [(tokenizer.decode([int(i)]), float(p[i])) for i in best]


@app.cell
def _():
    mo.md("""
    # Order, smoothing, temperature

    A model that counts predicts each character from the few before it. Choose how many (the order
    counts the predicted one, too), what it believes of runs it has never seen, and how boldly it
    draws. Watch for three things. At a high order it quotes Shakespeare, and add-k falls apart. At
    a low temperature it runs in circles. At a high one it forgets how to spell.
    """)
    return


@app.cell
def _():
    order = mo.ui.slider(1, 8, value=5, label="order", show_value=True)
    smoothing = mo.ui.dropdown(SMOOTHINGS, value="Kneser–Ney", label="smoothing")
    temperature = mo.ui.slider(0, 2, step=0.05, value=1.0, label="temperature", show_value=True)
    prompt = mo.ui.text(value="ROMEO. ", label="it begins with")
    seed = mo.ui.number(0, 9999, value=0, label="dice")
    mo.vstack([mo.hstack([order, smoothing], justify="start"),
               mo.hstack([temperature, prompt, seed], justify="start")])
    return order, prompt, seed, smoothing, temperature


@app.cell
def _():
    source = load_or_default("shakespeare")
    text = source.text[:1_000_000]      # counted in a fraction of a second at any order
    return (text,)


@app.cell
def _(order, smoothing, text):
    tokenizer, model = fitted(text, order.value, smoothing.value)
    return model, tokenizer


@app.cell
def _(model, prompt, seed, temperature, tokenizer):
    page = written(tokenizer, model, prompt.value, 500, temperature.value, seed.value)
    mo.Html(f"<pre style='white-space: pre-wrap'><b>{html.escape(prompt.value)}</b>"
            f"{html.escape(page)}</pre>")
    return


@app.cell
def _(model, prompt, temperature, tokenizer):
    rows = likeliest(tokenizer, model, prompt.value, temperature.value)
    mo.ui.table([{"next": repr(c), "probability": f"{p:.3f}", "": "█" * round(40 * p)}
                 for c, p in rows], selection=None, label="What comes after the beginning")
    return


if __name__ == "__main__":
    app.run()
