"""Day 63 · How large should the first weights be, in a shallow network and in a deep one?

    python experiments/first_weights.py [--fast] [--json] [--out DIR]

The spread of all first matrices of the blocks is multiplied by a factor; 1 is 1/√C. What writes
into the stream begins 1/√(2L) smaller (day 20), or in the last curve it does not.
See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

FACTORS = 0.25, 0.5, 1, 2, 4

SWEEP = Sweep(
    "first_weights", "spread of the first matrices, in units of 1/√C",
    {name: {f: {"start": f, **change} for f in FACTORS} for name, change in
     {"2 blocks": {"L": 2}, "12 blocks": {"L": 12},
      "12 blocks, without 1/√(2L)": {"L": 12, "scaled": False}}.items()},
    reference={"2 blocks": 1, "12 blocks": 1, "12 blocks, without 1/√(2L)": 1},
    base={"C": 24, "H": 2, "steps": 300, "warmup": 30})

if __name__ == "__main__":
    main(SWEEP, __doc__)
