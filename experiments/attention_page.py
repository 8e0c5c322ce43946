"""Day 35 · Put a trained GPT, in 8 bits, into the page notes/interactive/attention.html.

    python -m days pages                          the course's model, that of days/day35/trained.py
    python -m days pages --model FILE             one of yours, as `python -m days run 35` keeps it
    python -m days pages --model FILE --out PAGE  into another file than the course's own page

As with the pages of `pages.py`, the page is a template that holds its
own data: the tokenizer and every weight. With them it runs the model by itself, on any text. A
matrix is stored as whole numbers from −127 to 127 and one scale for each output; day 44 tells what
that costs. Left out: learned positions and other models than day 34's.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day35.trained import trained
from days.harness import UsageError, nearby, say, write_atomically
from experiments.pages import FOLDER, as_json, fill, part
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.snapshot import SnapshotError, load_snapshot

PAGE = FOLDER / "attention.html"
WEIGHTS, TOKENS = 2_000_000, 1024       # a page has room, and a browser patience, for so many
TOP = 127                               # the largest of the whole numbers
CURE = "give a file that `python -m days run 35` keeps in runs/day35"


@dataclass(frozen=True)
class Opened:
    """A model for the page, and the words for where it is from."""

    name: str
    model: GPT
    tokenizer: CharTokenizer | FastBPE


def make(model=None, out=None):
    """Write the page with the model of this file; None: with the reader's GPT of day 35.

    model, out: path, str or None. Returns 0. Raises UsageError, one line, for a file that cannot
    be had, is of another kind or is too large for a page.
    """
    path = PAGE if out is None else Path(out)
    if path.suffix != ".html":
        raise UsageError(f"--out {path} is no page: give it a name that ends in .html")
    opened = reference() if model is None else restore(Path(model))
    text = fresh(opened)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write the page {path}: {error.strerror}. Choose another "
                         "--out") from None
    weights = opened.model.count_parameters()
    say(f"{nearby(path)}: {weights:,} weights, {len(text.encode()) / 1000:,.0f} kB. "
        "Open it in a browser; no server and no network is needed.")
    if model is not None and out is None:
        say("`python -m days pages` puts the course's own model back")
    return 0


def reference():
    """The reader's GPT, trained now where it is not in the cache."""
    reader = trained()
    return Opened("the reader’s GPT of day 35, trained on Shakespeare", reader.model,
                  reader.tokenizer)


def restore(path):
    """The model of a snapshot that day 35 wrote, by run.py or by trained.py."""
    if not path.is_file():
        raise UsageError(f"there is no model {nearby(path)}; {CURE}")
    try:
        about, state, _, _ = load_snapshot(path)
    except SnapshotError:
        raise UsageError(f"{nearby(path)} is damaged or no model of day 35; {CURE}") from None
    count = sum(array.size for array in state.values())
    if count > WEIGHTS:
        raise UsageError(f"{nearby(path)} has {count:,} weights, and a page has room for "
                         f"{WEIGHTS:,}; give a smaller model")
    try:
        return Opened(path.stem, assemble(about["recipe"], state), tokenizer_of(about, state))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UsageError(f"{nearby(path)} holds another kind of model ({reason}); {CURE}") from None


def assemble(recipe, state):
    """A GPT with rotary positions and these weights. ValueError if they are not such a model's."""
    V, C = state["embed.table"].shape
    L = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if recipe["T"] > TOKENS:
        raise ValueError(f"its context is {recipe['T']:,} tokens, and a page shows {TOKENS:,}")
    if not all(np.isfinite(array).all() for array in state.values()):
        raise ValueError("not all of its weights are numbers")
    config = GPTConfig(V=V, T=recipe["T"], C=C, L=L, H=recipe["H"], rotary=True)
    model = GPT(config, np.random.default_rng(0))
    model.load_state_dict(state)
    return model


def tokenizer_of(about, state):
    """Characters or byte pairs, whichever it was trained on. ValueError if they do not fit it."""
    tokenizer = (CharTokenizer(about["characters"]) if "characters" in about
                 else FastBPE.from_merges(about["merges"], "gpt2"))
    V = len(state["embed.table"])
    if tokenizer.vocab_size != V:
        raise ValueError(f"{tokenizer.vocab_size} tokens, but {V} embeddings")
    return tokenizer


def data(opened):
    """What the page holds."""
    config, words = opened.model.config, opened.tokenizer
    pairs = isinstance(words, FastBPE)
    whole, floats, arrays = pack(opened.model.state_dict())
    return {"name": opened.name, "config": {key: getattr(config, key) for key in "VTCLH"},
            "characters": None if pairs else words.characters,
            "merges": words.merges[:, :2].ravel().tolist() if pairs else None,
            "arrays": arrays, "floats": as_text(floats), "whole": as_text(whole)}


def pack(state):
    """(int8, float32, [[name, rows, columns]]): every array of the state, one after another.

    A matrix is rounded: its whole numbers, and a scale for each output, which is a row of the
    embedding and a column of all others. A vector, of 0 columns here, stays as it is.
    """
    whole, floats, arrays = [], [], []
    for name, array in state.items():
        arrays.append([name, *array.shape, *[0] * (2 - array.ndim)])
        if array.ndim == 1:
            floats.append(array)
            continue
        largest = np.abs(array).max(axis=by_output(name), keepdims=True)
        scale = np.where(largest, largest / TOP, 1).astype(np.float32)
        whole.append(np.rint(array / scale).astype(np.int8).ravel())
        floats.append(scale.ravel())
    return np.concatenate(whole), np.concatenate(floats).astype("<f4"), arrays


def unpack(data):
    """{name: float32 array} of a page's data: what the page multiplies by."""
    whole, floats = (np.frombuffer(base64.b64decode(data[key]), kind)
                     for key, kind in (("whole", np.int8), ("floats", "<f4")))
    state = {}
    for name, rows, columns in data["arrays"]:
        if not columns:
            state[name], floats = floats[:rows], floats[rows:]
            continue
        count = rows if by_output(name) else columns
        scale = floats[:count].reshape((-1, 1) if by_output(name) else (1, -1))
        state[name] = whole[:rows * columns].reshape(rows, columns) * scale
        whole, floats = whole[rows * columns:], floats[count:]
    return state


def by_output(name):
    """The axis along which numbers share a scale: 1 in the embedding, 0 in other matrices."""
    return int(name == "embed.table")


def as_text(array):
    """The bytes of an array in base64."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def fresh(opened, template=None):
    """The text of the page as it should be. Nothing in a name can end the script."""
    page = (template or PAGE).read_text(encoding="utf-8")
    return fill(page, "data", as_json(data(opened)).replace("<", "\\u003c"))


def held(page=PAGE):
    """The data that a page holds."""
    return json.loads(part(Path(page).read_text(encoding="utf-8"), "data"))


if __name__ == "__main__":
    make()
