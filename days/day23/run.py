"""Day 23 · What is wrong with this training? Six broken runs, and a probe that names each fault."""

from dataclasses import dataclass

import numpy as np

from days.day23.patients import BROKEN, HEALTHY, Patient, one_batch, random_loss, run, weaker
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer
from llm.train.verdict import RULES, diagnose, evidence

UNSURE = Patient("windows in order, unsorted", order="sequence")
RATES = [round(1e-3 * 1.5**k, 5) for k in range(12)]
FIRST = 10                       # the first seed reported; the limits were chosen on 0 to 2


@dataclass(frozen=True)
class Result:
    corpus: str
    V: int
    entropy: float        # nats, of the characters' frequencies
    steps: int
    seeds: int
    verdicts: dict        # run → {verdict: how often}
    found: dict           # run → {evidence: its values, a seed each}
    curves: dict          # run → loss at each look, first seed
    ratios: dict          # run → [step, update over weight] of each look, first seed
    sentences: dict       # run → what the probe says, first seed
    histograms: dict      # run → shares of log10 |gradient| by matrix at the last look, first seed
    rates: list           # rows: rate, update over weight in the middle, end loss, its spread, and
                          # the size of the matrices in the middle over that at the start
    one: dict             # run → loss after as many steps on one batch, a seed each
    limits: dict          # evidence → limit
    right: int            # broken runs that were named rightly
    wrong: int            # healthy runs that were not called healthy


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    text = corpus.train[:20_000 if fast else 500_000]
    tokenizer = CharTokenizer.from_text(text)
    texts = {"play": tokenizer.encode(text),
             "sorted": tokenizer.encode("\n".join(sorted(set(text.splitlines()))))}
    V, counts = tokenizer.vocab_size, np.bincount(texts["play"])
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    steps, seeds, rates = (40, 1, RATES[2:8:4]) if fast else (300, 5, RATES)
    found, verdicts, first, one = {}, {}, {}, {}
    patients = [*HEALTHY, UNSURE, *BROKEN]
    with progress(len(patients) * (seeds + 1) + 3 * len(rates), "training") as tick:
        for patient in patients:
            ids = texts[patient.text]
            for i in range(seeds):
                n = seed + FIRST + i
                probe, model = run(patient, ids, V, n, steps)
                facts = evidence(probe.looks, probe.losses,
                                 random_loss(model, patient, ids, n), V, entropy)
                name, sentence = diagnose(facts)
                counted = verdicts.setdefault(patient.name, {})
                counted[name] = counted.get(name, 0) + 1
                for what, value in vars(facts).items():
                    found.setdefault(patient.name, {}).setdefault(what, []).append(value)
                first.setdefault(patient.name, (probe, sentence))
                tick(1, patient.name)
            if patient.network != "recurrent":
                one[patient.name] = [float(np.mean(one_batch(patient, ids, V, seed + FIRST + i,
                                                             steps)[-5:])) for i in range(seeds)]
            tick()
        swept = [sweep(rate, texts["play"], V, seed, steps, tick) for rate in rates]
    names = [patient.name for patient in BROKEN]
    return Result(
        corpus.name, V, entropy, steps, seeds, verdicts, found,
        {n: [[look.step, look.loss] for look in p.looks] for n, (p, _) in first.items()},
        {n: [[look.step, look.ratio()] for look in p.looks] for n, (p, _) in first.items()},
        {n: s for n, (_, s) in first.items()},
        {n: shares_of(p.looks[-1]) for n, (p, _) in first.items()}, swept, one,
        {what: limit for _, what, limit, _ in RULES},
        sum(verdicts[n].get(n, 0) for n in names),
        sum(seeds - verdicts[p.name].get("healthy", 0) for p in HEALTHY))


def shares_of(look):
    """{matrix: shares of its gradient's values by size}, zeros first."""
    return {name: [round(n / sum(look.histograms[name]), 4) for n in look.histograms[name]]
            for name in look.matrices}


def sweep(rate, ids, V, seed, steps, tick):
    """[rate, update over weight halfway, end loss, spread, growth of the matrices until then] over
    three seeds of the healthy run."""
    ends, ratios, grown = [], [], []
    for i in range(3):
        probe, model = run(weaker(Patient(), rate), ids, V, seed + 50 + i, steps)
        start, half = probe.looks[0], probe.looks[len(probe.looks) // 2]
        ratios.append(half.ratio())
        grown.append(np.median([half.weights[name] / start.weights[name]
                                for name in half.matrices]))
        ends.append(random_loss(model, Patient(), ids, seed + 50 + i))
        tick()
    return [rate, float(np.mean(ratios)), float(np.mean(ends)), float(np.std(ends, ddof=1)),
            float(np.mean(grown))]


def table(result):
    """For each fault the number that names it, beside the same number of all healthy runs."""
    names = {name: (what, limit) for name, what, limit, _ in RULES}
    calm = [name for name in result.found if name.startswith("healthy")]
    rows = [["run", "named", "number", "here", "healthy runs", "limit"]]
    for name, facts in result.found.items():
        fault = "batches in order" if name == UNSURE.name else name
        named = f"{result.verdicts[name].get(fault if fault in names else 'healthy', 0)} of " \
                f"{result.seeds}"
        if fault not in names:
            rows.append([name, named, "–", "–", "–", "–"])
            continue
        what, limit = names[fault]
        rows.append([name, named, what, span(facts[what]),
                     span([v for c in calm for v in result.found[c][what]]), f"{limit:g}"])
    return rows


def span(values):
    """The smallest and the largest."""
    return f"{min(values):.2g} to {max(values):.2g}"


def show(result):
    print_table(table(result), f"{result.seeds} seeds, {result.steps} steps")
    print_table([["run", "what the probe says"], *([n, s or "healthy"] for n, s in
                                                    result.sentences.items())])
    print_table([["rate", "update / weight", "weights grown", "nats at the end", "spread"], *(
        [f"{rate:g}", f"{ratio:.4f}", f"{grown:.2f}", f"{nats:.3f}", f"{std:.3f}"]
        for rate, ratio, nats, std, grown in result.rates)], "the healthy run at other rates")
    print_table([["one batch, again and again", "nats at the end"], *(
        [name, f"{np.median(ends):.3f}"] for name, ends in result.one.items())])


PANELS = [("bad start", "start", "first loss over ln V"),
          ("dead units", "dead", "share of units always 0"),
          ("exploding gradient", "growth", "largest gradient over the last's"),
          ("rate too high", "ratio", "update over weight"),
          ("batches in order", "gap", "nats: random batches less the loop's"),
          ("targets do not belong to inputs", "gain", "nats below the frequencies")]


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(2, 3, figsize=(9.6, 5.4))
    order = list(result.found)
    for ax, (name, what, label) in zip(axes.ravel(), PANELS):
        for i, run_name in enumerate(order):
            values = [min(v, 1e3) for v in result.found[run_name][what]]
            hit = run_name == name
            ax.plot(values, [len(order) - i] * len(values), "o", ms=5 if hit else 3.5,
                    color="#c2571a" if hit else "#1f5a99" if run_name.startswith("healthy")
                    else "#999999", alpha=0.8)
        ax.axvline(result.limits[what], color="#222222", ls="--", lw=1)
        if what in ("growth", "ratio"):
            ax.set_xscale("log")
        ax.set_yticks([])
        ax.set_title(name, fontsize=9.5)
        ax.set_xlabel(label, fontsize=9)
    fig.suptitle(f"{result.right} of {len(PANELS) * result.seeds} broken runs are named rightly; "
                 f"{result.wrong} of {3 * result.seeds} healthy ones are blamed\norange: runs with "
                 "this fault; grey: with another; blue: healthy; dashed: the limit",
                 x=0.01, ha="left", fontsize=10.5)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
