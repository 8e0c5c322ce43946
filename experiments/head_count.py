"""Day 63 · Into how many heads should the channels of a small GPT be divided?

    python experiments/head_count.py [--fast] [--json] [--out DIR]

48 channels in 1 to 12 heads, so that a head has 48 down to 4 channels. The number of parameters
does not change. See sweep.py for how it is measured; what single heads do is day 29's heads.py.
"""

from experiments.sweep import Sweep, main

SWEEP = Sweep(
    "head_count", "heads, of 48 channels in all",
    {"2 blocks": {H: {"H": H} for H in (1, 2, 3, 6, 12)}},
    reference={"2 blocks": 3}, first={"2 blocks": 0.0044})

if __name__ == "__main__":
    main(SWEEP, __doc__)
