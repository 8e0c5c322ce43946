"""Day 58 · DPO, IPO and ORPO on the same pairs; what becomes of the margin and of the chosen."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from days.day57.start import start
from days.day58 import displacement, limits, study
from days.harness import UsageError, kernels, main, print_table, progress, save
from llm.data.preferences import Pair
from llm.data.preferences import pairs as draw_pairs
from llm.tune.jsonl import read_jsonl

RATES = {"dpo": 4e-4, "ipo": 6e-4, "orpo": 9e-4}     # guesses; experiments/preferences.py searches
SETTINGS = {"dpo": {"beta": 0.5}, "ipo": {"tau": 0.5}, "orpo": {"weight": 1.0}}
NAMES = {"dpo": "DPO", "ipo": "IPO", "orpo": "ORPO"}
CURVES = [("dpo", 1.0), ("dpo", 0.8), ("ipo", 1.0), ("ipo", 0.8)]


@dataclass(frozen=True)
class Result:
    data: str             # where the pairs come from
    pairs: int            # to learn from
    test_pairs: int
    left_out: int         # too long for the window
    steps: int
    B: int
    rates: dict
    settings: dict
    reference: dict       # what it says to held-out prompts
    methods: dict         # name -> how it has moved on held-out pairs, and what it says
    samples: list         # [prompt, before, DPO, IPO, ORPO]: the first eight, drawn once
    limits: list          # [method, share that agrees, target or None, [[step, margin], …]]
    step: dict            # one gradient step: predicted and measured changes of ln π(chosen)
    optimum: list         # [β, KL, utility] of the exact optimum
    wide: dict = field(default_factory=dict)    # DPO at five times its rate


def measure(fast, seed, data=None):
    reference, rng = start(fast), np.random.default_rng([58, seed])
    n, test, steps, B, A = (48, 16, 3, 8, 1) if fast else (640, 64, 40, 16, 2)
    prompts = study.held_out_prompts(8 if fast else 48, np.random.default_rng(580))
    total = 4 * steps + 4 * (4 if fast else 80)
    with kernels(), progress(total, "learning preferences") as tick:
        learned, held, left_out = sides(reference, data, n, test, rng)
        policies = {m: study.train(reference, learned, m, RATES[m], steps, seed, B, tick,
                                   **SETTINGS[m]) for m in RATES}
        said = {m: study.on_pairs(p, held) | study.on_prompts(p, reference, prompts.report, seed, A)
                for m, p in policies.items()}
        wide = study.train(reference, learned, "dpo", 5 * RATES["dpo"], steps, seed, B, tick,
                           **SETTINGS["dpo"])
        wide = (study.on_pairs(wide, held) | {"rate": 5 * RATES["dpo"]}
                | study.on_prompts(wide, reference, prompts.report, seed, A))
        few = study.encoded(reference, draw_pairs(4, rng, noise=0))[0]
        grown = [[m, p, limits.target(m, p, 0.5),
                  limits.grow(reference, few, m, p, *((4, 2) if fast else (80, 8)), tick=tick,
                              **SETTINGS[m])] for m, p in CURVES]
        step = displacement.one_step(reference.model, held.take(np.arange(min(24, len(held)))))
        texts = [study.say_all(m, reference.tokenizer, prompts.report[:8],
                               np.random.default_rng(seed))[0]
                 for m in (reference.model, *policies.values())]
        return Result(
            str(data) if data else "drawn with day 56's known taste", len(learned), len(held),
            left_out, steps, B, RATES, SETTINGS,
            study.on_prompts(reference.model, reference, prompts.report, seed, A), said,
            [list(row) for row in zip(prompts.report[:8], *texts)], grown, step,
            study.frontier(prompts.report, (.0625, .125, .25, .5, 1, 2, 4, 8)), wide)


def sides(reference, data, n, test, rng):
    """(Preferences to learn from, held-out ones, how many were too long)."""
    if not data:
        learned, left = study.encoded(reference, draw_pairs(n, rng))
        held, more = study.encoded(reference, draw_pairs(test, rng, test=True))
        return learned, held, left + more
    own = [Pair(*row) for row in read_jsonl(data, "preference") if row.chosen != row.rejected]
    cut = len(own) * 4 // 5
    try:
        (learned, a), (held, b) = (study.encoded(reference, part) for part in (own[:cut],
                                                                               own[cut:]))
    except ValueError as error:
        raise UsageError(f"{data}: of {len(own)} pairs with different answers the first four "
                         f"fifths are to learn from and the rest is held out, but: {error}"
                         ) from None
    return learned, held, a + b


def table(result):
    rows = [["", "utility", "KL", "margin", "ln π(w)", "ln π(l)", "tokens", "declined",
             "over-refused"]]
    zero = {"margin": 0, "chosen": 0, "rejected": 0}
    named = {"reference": result.reference | zero} | {NAMES[m]: r for m, r in
                                                     result.methods.items()}
    for name, r in {**named, "DPO, 5 × rate": result.wide}.items():
        rows.append([name, *(f"{r[key]:.2f}" for key in ("utility", "kl", "margin", "chosen",
                                                         "rejected")), f"{r['tokens']:.1f}",
                     *(f"{100 * r[key]:.0f} %" for key in ("declined", "over_refused"))])
    return rows


def show(result):
    print_table(table(result), f"{result.pairs} pairs {result.data}; measured on held-out ones")
    print_table([["margin of 4 pairs", "agree", "target", "at the end"]] + [
        [NAMES[m], f"{p:.0%}", "none" if goal is None else f"{goal:.2f}", f"{curve[-1][1]:.2f}"]
        for m, p, goal, curve in result.limits])
    print_table([["prompt", "before", *(NAMES[m] for m in result.methods)], *result.samples])


def draw(result, path):
    """Left: margins over steps, with their targets. Right: utility against KL, and the optimum."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    colors = {"dpo": "#b3401f", "ipo": "#1f5a99", "orpo": "#3f7d3f"}
    for m, p, goal, curve in result.limits:
        steps, h = zip(*curve, strict=True)
        left.plot(steps, h, color=colors[m], ls="-" if p == 1 else "--",
                  label=f"{NAMES[m]}, {p:.0%} agree")
        if goal is not None:
            left.axhline(goal, color=colors[m], lw=.7, ls=":")
    left.set(yscale="symlog", ylim=(0, None), xlabel="step, always the same 4 pairs",
             ylabel="mean margin h in nats", yticks=[0, .6, 1, 2.77, 10, 30])
    left.set_yticklabels(["0", "0.6", "1", "2.77", "10", "30"])
    left.minorticks_off()
    left.legend(loc="upper left", bbox_to_anchor=(.4, .86), fontsize=8)
    _, kl, worth = zip(*result.optimum, strict=True)
    right.plot(kl, worth, color="#8a8a8a", label="the exact optimum, by β")
    right.plot(result.reference["kl"], result.reference["utility"], "s", color="black",
               label="the reference")
    for m, r in result.methods.items():
        right.plot(r["kl"], r["utility"], "o", color=colors[m], ms=8, label=NAMES[m])
    right.set(xlabel="KL(π‖π_ref), nats an answer", ylabel="mean utility of what is said")
    right.legend(loc="lower right", fontsize=8)
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    end = {(m, p): curve[-1][1] for m, p, _, curve in result.limits}
    return (f"Where all labels agree, DPO drives the margin to {end['dpo', 1.0]:.0f} nats and IPO "
            f"stops at {end['ipo', 1.0]:.1f};\nwhere a fifth disagrees, DPO stops at "
            f"{end['dpo', .8]:.1f}, ln 4/β")


def add_arguments(parser):
    parser.add_argument("--data", type=Path, metavar="FILE", help="your own pairs: one JSON object "
                        'a line, {"prompt": "…", "chosen": "…", "rejected": "…"}')


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
