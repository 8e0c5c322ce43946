"""Day 63 · A ranking of variants: their order, their p-values in writing, and one line for each.

Left out: what is computed before there is anything to rank (few_seeds.py), and any verdict.
"""


def ranked(record):
    """Names of the tested variants, the best first."""
    return sorted((name for name, r in record["variants"].items() if "holm" in r),
                  key=lambda name: record["variants"][name]["mean"])


def shown(p):
    """A probability as a reader wants it."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def forest(axes, record, names):
    """Points with intervals, the best on top; filled and coloured where real."""
    for y, name in enumerate(reversed(names)):
        r = record["variants"][name]
        color = ("C2" if r["mean"] < 0 else "C3") if r["real"] else "0.55"
        axes.plot([r["low"], r["high"]], [y, y], color=color, lw=2)
        axes.plot(r["mean"], y, "o", color=color, mfc=color if r["real"] else "white")
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_xscale("symlog", linthresh=0.05)
    ticks = [sign * size for size in (0.05, 0.2, 1.0) for sign in (-1, 1)]
    reached = [x for x in ticks if axes.get_xlim()[0] <= x <= axes.get_xlim()[1]]
    axes.set_xticks([0, *reached], ["0", *(f"{x:+.3g}" for x in reached)])
    axes.minorticks_off()
    axes.set_xlabel("nats a character less the baseline's (95 % interval; linear within ±0.05)")
