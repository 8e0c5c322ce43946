"""Day 39 · Makers of training steps by hand, and of the tape's, for the clock of day 38.

Each works in a process of its own (days/day38/sides.py): make(case, side) returns a function that
makes one step, with clipping and AdamW, and returns its loss.
"""

import threading
from types import SimpleNamespace

import numba

from days.day38.sides import RATE, batches, model_of, our_steps
from llm.kernels import by_hand as kernels
from llm.models.gpt_by_hand import GPTByHand
from llm.tensors.roofline import Blas


def one_thread():
    """From now on, in this process."""
    Blas().set_threads(1)
    numba.set_num_threads(1)


def trainer_of(case, workers, functions=kernels):
    _, B, T, *_ = case
    return GPTByHand(model_of(case), B, T, workers=workers, functions=functions,
                     decays=lambda name, p: True)               # as day 38's sides


def by_hand(case, side):
    """side: "by hand", two workers; "by hand, 1", one thread; "by hand, meeting", two workers
    that wait for each other after every function."""
    if side.endswith("1"):
        one_thread()
    functions = meeting(2) if side.endswith("meeting") else kernels
    trainer = trainer_of(case, 1 if side.endswith("1") else 2, functions)
    source = batches(case)
    return lambda: trainer.step(*next(source), RATE)


def tape(case, side):
    """side "tape, 1": day 38's step on one thread."""
    one_thread()
    return our_steps(case, "ours")


def meeting(workers):
    """The functions of kernels/by_hand.py, each followed by a meeting of all workers."""
    barrier = threading.Barrier(workers)

    def then_meet(function):
        def call(*arguments):
            found = function(*arguments)
            barrier.wait()
            return found
        return call

    own = {name: getattr(kernels, name) for name in ("adamw", "add_squares")}
    return SimpleNamespace(**{name: then_meet(getattr(kernels, name)) for name in FUNCTIONS}
                           | own)


FUNCTIONS = ["matmul", "embed", "embed_back", "norm", "add_norm", "norm_back", "turn", "turn_back",
             "softmax", "softmax_back", "gelu", "gelu_back", "cross_entropy"]
