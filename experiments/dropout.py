"""Day 63 · When does dropout help: on a text read many times, or on one read in part?

    python experiments/dropout.py [--fast] [--json] [--out DIR]

"20,000 characters": the training text is cut to so many, and read about thirteen times.
"all of the text": a sixteenth of Shakespeare is read once. See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

RATES = 0.0, 0.1, 0.2, 0.3

SWEEP = Sweep(
    "dropout", "share dropped",
    {"20,000 characters": {p: {"dropout": p, "read": 20_000} for p in RATES},
     "all of the text": {p: {"dropout": p} for p in RATES}},
    reference={"20,000 characters": 0.0, "all of the text": 0.0},
    base={"steps": 1000, "warmup": 100}, log=False)

if __name__ == "__main__":
    main(SWEEP, __doc__)
