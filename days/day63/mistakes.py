"""Day 63 · Mistakes people make; `python -m days drill 63` sets one as a task."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The rate is chosen on the text that is reported",
        file="experiments/ablations_choice.py",
        right='found[step] = statistics.mean(run["choose"] for run in runs)',
        wrong='found[step] = statistics.mean(run["report"] for run in runs)',
        symptom="Every variant looks a little better than it is, and the one with the widest grid "
                "gains the most."),
    Mistake(
        title="Two samples where there are pairs",
        file="days/day63/few_seeds.py",
        right="    d = differences(these, those)\n    n, mean, spread = len(d), float(d.mean()), "
              "float(d.std(ddof=1))",
        wrong="    d = differences(these, those)\n    n, mean, spread = len(d), float(d.mean()), "
              "math.hypot(np.std(these, ddof=1), np.std(those, ddof=1))",
        symptom="The intervals are several times as wide as they need be, and real differences "
                "cannot be told apart."),
    Mistake(
        title="The standard deviation is divided by n",
        file="days/day63/few_seeds.py",
        right="float(d.mean()), float(d.std(ddof=1))",
        wrong="float(d.mean()), float(d.std())",
        symptom="With three seeds, 95 % intervals hold the true mean in 93 % of the studies."),
    Mistake(
        title="Holm multiplies every p by its rank, the smallest by 1",
        file="days/day63/few_seeds.py",
        right="largest = max(largest, (m - rank) * p_values[i])",
        wrong="largest = max(largest, (rank + 1) * p_values[i])",
        symptom="The smallest p-value is not corrected at all: among twenty equal variants one is "
                "nearly always 'real'."),
    Mistake(
        title="Every variant sees the text in an order of its own",
        file="days/day63/trial.py",
        right="np.random.default_rng([order, 1])",
        wrong="np.random.default_rng([order, start])",
        symptom="Runs with the same order and another start no longer share their batches, and the "
                "variance is blamed on the start."),
    Mistake(
        title="A torn line swallows the next run",
        file="days/day63/ledger.py",
        right='os.write(handle, b"\\n" * torn + line + b"\\n")',
        wrong='os.write(handle, line + b"\\n")',
        symptom="After a crash, the first run of the next call is lost and made again each time."),
]

# Changes that alter nothing a reader could see; `python -m days mutants 63` leaves them out.
EQUIVALENT = []
