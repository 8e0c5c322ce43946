"""Day 63 · Norm before or after each branch, or none: what happens as networks grow deeper?

    python experiments/norm_at_depth.py [--fast] [--json] [--out DIR]

24 channels, 2 to 8 blocks, 300 steps. Every depth has its own best rate; the right half of the
figure shows how the loss depends on it. See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

DEPTHS = 2, 4, 8

SWEEP = Sweep(
    "norm_at_depth", "blocks",
    {name: {L: {"L": L, **change} for L in DEPTHS} for name, change in
     {"before (pre)": {}, "after (post)": {"placement": "post"}, "none": {"norm": "none"}}.items()},
    reference={"before (pre)": 2, "after (post)": 2, "none": 2},
    base={"C": 24, "H": 2, "steps": 300, "warmup": 30})

if __name__ == "__main__":
    main(SWEEP, __doc__)
