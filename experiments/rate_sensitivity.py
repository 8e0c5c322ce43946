"""Day 63 · How far may the learning rate be from its best, with which optimizer and warmup?

    python experiments/rate_sensitivity.py [--fast] [--json] [--out DIR]

Every optimizer's rate goes from a sixteenth of its first rate to sixteen times as much. Nothing is
chosen here: every row is three seeds, and the reference is the first rate itself.
See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

FACTORS = [2.0 ** k for k in range(-4, 5)]

SWEEP = Sweep(
    "rate_sensitivity", "rate, in units of the first one",
    {name: dict.fromkeys(FACTORS, change) for name, change in
     {"AdamW": {}, "AdamW, no warmup": {"warmup": 1},
      "momentum": {"optimizer": "momentum"}, "Muon": {"optimizer": "muon"}}.items()},
    reference=dict.fromkeys(["AdamW", "AdamW, no warmup", "momentum", "Muon"], 1.0),
    first={"AdamW": 0.0135, "AdamW, no warmup": 0.0135, "momentum": 0.3, "Muon": 0.02},
    report=(10, 11, 12), rates=True)

if __name__ == "__main__":
    main(SWEEP, __doc__)
