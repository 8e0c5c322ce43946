"""Day 45 · Tokens a second from day 43's engine, format by format, taken in turns."""

from functools import partial

from llm.generate.engine import Engine
from llm.tensors.timing import seconds_each


def speeds(model, formats, position, repeats, step):
    """[name, bytes of the matrices, tokens a second] for each format, behind `position` tokens.

    model: arch, weights and ids, as in days/day43/models.py; what the weights are costs no time.
    """
    rivals, sizes = {}, {}
    for name, one in formats.items():
        engine = Engine(model.arch, model.weights, one)
        for i in model.ids[:position]:
            engine.step(int(i))
        rivals[name] = partial(again, engine, position, int(model.ids[position]))
        sizes[name] = sum(w.data.nbytes for w in engine.matrices().values())
    seconds = seconds_each(rivals, repeats, at_least=0.02, step=step)
    return [[name, sizes[name], 1 / seconds[name]] for name in rivals]


def again(engine, position, i):
    """One token at the same place as before."""
    engine.truncate(position)
    engine.step(i)
