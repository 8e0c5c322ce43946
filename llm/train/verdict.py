"""Day 23 · From a probe's numbers to a name for what is wrong: evidence, limits, verdict.

Each piece of evidence is one number, and each limit was chosen on other runs than those that day 23
reports. The order of the rules is the order of looking: first what is wrong before anything has
been learned, then what goes wrong on the way, last what is wrong with the data. Left out: faults
that come in pairs, of which the first is named.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Evidence:
    """The numbers of a run. `diagnose` has a limit for each of them but `saturated`."""

    start: float          # first loss over ln V: 1 where all tokens are thought equally likely
    saturated: float      # of the first step's activations, the share in the flat ends; worst layer
    dead: float           # at the last look, the share of units that are 0 for the whole batch
    growth: float         # first look, largest matrix gradient over the last one's; 0 without
    ratio: float          # the largest look's typical size of an update over a matrix's size
    gap: float            # nats at the end: on randomly drawn training batches, less the loop's
    gain: float           # nats below what the frequencies of tokens alone would give, at the end


RULES = [("bad start", "start", 1.5, "the first loss is {0:.1f} times ln V: smaller weights, above "
          "all in the last layer"),
         ("dead units", "dead", 0.3, "{0:.0%} of a layer's units are 0 for every row: lower rate, "
          "warmup, biases at 0, or an activation with a slope everywhere"),
         ("exploding gradient", "growth", 10.0, "a matrix gets a gradient {0:.3g} times that of "
          "the last one: clip the norm, or a smaller recurrent matrix"),
         ("rate too high", "ratio", 0.05, "a step changes matrices by {0:.1%} of their size: lower "
          "the rate"),
         ("batches in order", "gap", 0.2, "on batches drawn at random the loss is {0:.2f} nats "
          "higher than in the loop: draw them at random"),
         ("targets do not belong to inputs", "gain", 0.1, "the loss ends {0:.2f} nats below what "
          "frequencies alone give: print a batch, input and target side by side")]


def evidence(looks, losses, random_loss, V, entropy):
    """The Evidence of a run. looks, losses: a Probe's. entropy: nats, of the tokens' frequencies.

    random_loss: the trained model's on batches drawn at random from the training text. Raises
    ValueError for fewer than 20 losses, or without a look.
    """
    if len(losses) < 20 or not looks:
        raise ValueError(f"{len(losses)} losses and {len(looks)} looks are too few to judge: "
                         "watch at least 20 steps")
    losses = np.asarray(losses, np.float64)
    end = float(losses[-max(1, len(losses) // 10):].mean())
    first = [looks[0].gradients[name] for name in looks[0].matrices if name in looks[0].gradients]
    return Evidence(
        start=float(losses[0]) / math.log(V),
        saturated=worst(looks[0], "saturated"), dead=worst(looks[-1], "dead"),
        growth=max(first) / first[-1] if first and first[-1] > 0 else 0.0,
        ratio=max(look.ratio() for look in looks),
        gap=random_loss - end, gain=entropy - end)


def worst(look, name):
    """The largest share among the layers that were seen; 0 where none was."""
    return max((unit[name] for unit in look.units.values()), default=0.0)


def diagnose(found):
    """(name, sentence) of the first rule that an Evidence breaks; ("healthy", "") if none.

    What is not a finite number breaks its rule: a loss of NaN is never healthy.
    """
    for name, what, limit, cure in RULES:
        value = getattr(found, what)
        beyond = value < limit if what == "gain" else value > limit
        if beyond or not math.isfinite(value):
            return name, cure.format(value)
    return "healthy", ""
