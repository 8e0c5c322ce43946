"""Day 63 · For about as many parameters, should a small GPT be deep or wide?

    python experiments/depth_width.py [--fast] [--json] [--out DIR]

One to eight blocks, each with the number of channels that gives 59,000 to 67,000 parameters. The
head size stays between 12 and 22. See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

SHAPES = {1: {"C": 66, "H": 3}, 2: {"C": 48, "H": 3}, 4: {"C": 36, "H": 2}, 8: {"C": 24, "H": 2}}

SWEEP = Sweep(
    "depth_width", "blocks, for as many parameters",
    {"equal parameters": {L: {"L": L, **shape} for L, shape in SHAPES.items()}},
    reference={"equal parameters": 2}, first={"equal parameters": 0.0066})

if __name__ == "__main__":
    main(SWEEP, __doc__)
