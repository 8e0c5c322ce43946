"""Day 63 · The plan of the study: how many seeds, which variants, what a larger model is.

variants.py lists the variants; experiments/ablations.py makes the runs.
"""

from dataclasses import dataclass

from days.day63.variants import AGAIN, BASELINE, VARIANTS


@dataclass(frozen=True)
class Plan:
    """What the study does; fixed before the first run."""

    base: dict                           # what differs from Recipe's defaults everywhere
    larger: dict                         # of the check in stage 5
    choose: tuple = (0,)                 # seeds on the grid
    report: tuple = (10, 11, 12, 13, 14)      # fresh seeds at the chosen rate
    table: tuple = (10, 11, 12, 13, 14)  # starts and orders of stage 4
    check: tuple = (20, 21, 22)          # seeds of stage 5
    effects: int = 2                     # variants in stage 5
    only: tuple = ()                     # names; none: all
    level: float = 0.05                  # of all verdicts together

    @classmethod
    def small(cls):
        """For --fast: every stage, on little."""
        tiny = {"C": 12, "L": 1, "H": 3, "B": 2, "T": 16, "steps": 4, "warmup": 1,
                "characters": 20_000, "held_out": 300}
        return cls(tiny, {"C": 24}, choose=(0, 1), report=(10, 11, 12), table=(10, 11),
                   check=(20, 21), effects=1, only=(BASELINE, AGAIN, "RMSNorm"))

    def variants(self):
        """{name: Variant} of this plan, the baseline first."""
        return {name: v for name, v in VARIANTS.items() if not self.only or name in self.only}

    def task(self, name, rate, start, order, larger=False):
        """The run of a variant, as the ledger names it."""
        variant = self.variants()[name]
        change = {**self.base, **variant.change, **(self.larger if larger else {})}
        return {"variant": name, "change": change, "rate": rate,
                "start": start + variant.shift, "order": order + variant.shift}


PLAN = Plan({}, {"C": 96, "H": 6})
