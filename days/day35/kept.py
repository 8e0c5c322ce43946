"""Day 35 · Models on disk: where a run keeps its own, and how it goes on with it."""

import hashlib
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from days.day35.job import Recipe, assemble
from days.harness import ROOT, UsageError, nearby, say
from llm.tokens.fast_bpe import FastBPE
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot


def path_of(corpus, fast):
    """runs/day35/gpt-shakespeare.npz; a text of yours has its name and eight digits of its hash.

    So a model of one text never takes the place of another's.
    """
    name = Path(corpus.name).stem
    if corpus.name not in ("shakespeare", "python"):
        name += "-" + hashlib.sha256(corpus.text.encode("utf-8", "replace")).hexdigest()[:8]
    return ROOT / "runs" / "day35" / f"gpt-{'fast-' * fast}{name}.npz"


def check_path(path, resume):
    """Tell now what would else be told after a minute's work: UsageError."""
    if path.exists() and not resume:
        try:
            load_snapshot(path)
        except SnapshotError:
            raise UsageError(f"{nearby(path)} exists and is no model: it will not be replaced. "
                             "Delete it, or choose another --model") from None
    if resume and not path.exists():
        return                           # `restore` tells; no folder is made for nothing
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot keep a model at {path}: {error.strerror}. Choose another "
                         "--model") from None


def set_aside(path):
    """A new training does not replace what an old one made: that becomes …-before.npz."""
    if path.exists():
        older = path.with_name(f"{path.stem}-before{path.suffix}")
        os.replace(path, older)
        say(f"the model that was there is now {nearby(older)}")


def keep(path, state, step, seconds):
    """Save the model as it is after `step` steps and so many seconds of this cycle."""
    save_snapshot(path, state.model, state.optimizer, state.rng,
                  {"recipe": asdict(state.recipe),
                   "merges": state.tokenizer.merges[:, :2].tolist(), "step": step,
                   "used": seconds})


def restore(path):
    """A kept model. SnapshotError where the file holds none of this version."""
    about, weights, moments, rng_state = load_snapshot(path)
    try:
        facts = about["recipe"]
        recipe = Recipe(**{**facts, "orders": tuple(facts["orders"]),
                           "token_orders": tuple(facts["token_orders"])})
        state = assemble(recipe, FastBPE.from_merges(about["merges"], "gpt2"),
                         np.random.default_rng(0))
        state.model.load_state_dict(weights)
        state.optimizer.load_state_dict(moments)
        state.rng.bit_generator.state = rng_state
        state.step, state.used = about["step"], about["used"]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SnapshotError(f"{path} was kept by another version ({error}): delete it and train "
                            "again") from None
    return state
