"""Day 35 · Exercises to build; `python -m days check 35` grades them."""

import itertools

import numpy as np

from llm.grad.tensor import Tensor
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant


def shuffled_epoch(ids, B, T, rng):
    """Yield (inputs, targets) of one pass over the text in which no target comes twice.

    ids: (N,) integers. Cut the text into windows that share no target: they start at o, o + T,
    o + 2T, …, as long as a window and its last target fit. The offset o is drawn evenly from
    0 … min(T − 1, N − T − 1), so that the cuts are elsewhere in each epoch. Yield all the windows
    in random order, B at a time, as (B, T) int32 arrays; the last batch may hold fewer.
    Raises ValueError if the text is too short: `check` of llm.data.batches does. Example::

        shuffled_epoch(np.array([10, 11, 12, 13, 14]), 1, 2, rng)
        # with o = 0: [[12, 13]], [[13, 14]]  then  [[10, 11]], [[11, 12]]   (or the other first)
        # with o = 1: [[11, 12]], [[12, 13]]
    """
    raise NotImplementedError


def keep_best(evaluate, save, every):
    """A hook for `fit` that keeps the best model seen so far.

    After each step whose number is a multiple of `every`, and after the last one (step number =
    total), call evaluate() once: the validation loss, a float. If it is lower than all before,
    call save(loss). A NaN is lower than nothing. Returns the hook, a function of a `Step`.
    Example::

        fit(..., steps=5, hooks=[keep_best(evaluate, save, every=2)])
        # evaluate() after steps 2, 4, 5; for losses 3.0, 3.5, 2.9 it calls save(3.0), save(2.9)
    """
    raise NotImplementedError


def check_shuffled_epoch(f):
    """Every target once but the few cut off, in random order, with a cut that moves."""
    rng = np.random.default_rng(0)
    for n, B, T in [(5, 1, 2), (9, 3, 8), (50, 4, 7), (64, 2, 1), (300, 8, 4)]:
        offsets = set()
        for _ in range(40):
            batches = list(f(np.arange(100, 100 + n), B, T, rng))
            starts = []
            for inputs, targets in batches:
                assert inputs.dtype == targets.dtype == np.int32, "int32 arrays are wanted"
                assert inputs.shape == targets.shape and inputs.shape[1] == T
                steps = np.arange(T)
                assert np.array_equal(inputs, inputs[:, :1] + steps), "a window is not contiguous"
                assert np.array_equal(targets, inputs + 1), "targets are not the next tokens"
                starts += (inputs[:, 0] - 100).tolist()
            assert all(len(b[0]) == B for b in batches[:-1]), "only the last batch may be smaller"
            o = min(starts)
            assert o < T and sorted(starts) == list(range(o, n - T, T)), (
                f"the windows start at {sorted(starts)}: wanted every T = {T}, to the end")
            offsets.add(o)
            assert len(starts) < 30 or starts != sorted(starts), "the windows come in order"
        assert offsets == set(range(min(T, n - T))), f"offsets drawn: {sorted(offsets)}"
    try:
        next(iter(f(np.arange(3), 1, 3, rng)))
    except ValueError as error:
        assert "3 tokens" in str(error), f"the message does not tell the length: {error}"
    else:
        raise AssertionError("a text of 3 tokens has no window of 3 and a next one: ValueError")


def check_keep_best(f):
    """The example, NaN, the last step, and a real descent that the hook must not disturb."""
    assert kept(f, 5, 2, [3.0, 3.5, 2.9]) == [3.0, 2.9]
    assert kept(f, 6, 3, [float("nan"), 4.0]) == [4.0]
    assert kept(f, 4, 1, [2.0, float("nan"), 2.0, 1.0]) == [2.0, 1.0]
    assert kept(f, 4, 9, [7.0]) == [7.0], "after the last step one must look too"
    assert kept(f, 6, 3, [1.0, 2.0]) == [1.0], "step 6 is a multiple and the last: one look"
    first, second = [], []
    a, b = f(lambda: 1.0, first.append, 1), f(lambda: 2.0, second.append, 1)
    descend([a, b], 2)
    assert (first, second) == ([1.0], [2.0]), "two hooks must not share what they remember"


def kept(f, steps, every, losses):
    """What is saved when the looks find these losses; every one of them must be used."""
    looks, saved = [], []

    def evaluate():
        looks.append(1)
        assert len(looks) <= len(losses), f"more than {len(losses)} looks in {steps} steps"
        return losses[len(looks) - 1]

    descend([f(evaluate, saved.append, every)], steps)
    assert len(looks) == len(losses), f"{len(looks)} looks in {steps} steps, not {len(losses)}"
    return saved


def descend(hooks, steps):
    x = Tensor(np.array([1.0]), requires_grad=True)
    fit({"x": x}, lambda batch: ((x * x).sum(), 1), itertools.repeat(None), AdamW({"x": x}),
        Constant(0.1), steps=steps, hooks=hooks)
