"""Day 43 · The tables and the figure of the run."""

import numpy as np

from days.harness import save

COLORS = ("#c8553d", "#6a994e", "#1b4965")


def table(r):
    """The phases of the last model, the large one."""
    return phase_table(r.phases[-1], r.peaks[-1])


def phase_table(rows, peak):
    head = ["phase", "times", "MB a token", "µs a token", "GB/s", "share of the peak"]
    return [head] + [[kind, times, f"{size / 1e6:.1f}", f"{1e6 * seconds:,.0f}",
                      f"{size / seconds / 1e9:.1f}", f"{size / seconds / 1e9 / peak:.0%}"]
                     for kind, times, size, seconds in [*rows, whole(rows)]]


def whole(rows):
    """The sum over all phases of a token."""
    return ["the token", sum(row[1] for row in rows), sum(row[2] for row in rows),
            sum(row[3] for row in rows)]


def ways_table(r):
    """Tokens a second, by way and model."""
    return [["way", *(name for name, *_ in r.models)]] + [
        [way, *(f"{1 / s[way]:,.0f}" if way in s else "" for s in r.seconds)]
        for way in r.seconds[0]]


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.6), width_ratios=(1.1, 1))
    for (name, *_), rows, color, marker in zip(r.models, r.phases, COLORS, "o^s"):
        x = [size / times / 1e3 for _, times, size, _ in rows]
        y = [size / seconds / 1e9 for *_, size, seconds in rows]
        left.loglog(x, y, marker, color=color, ms=5, label=name)
        left.annotate("attention", (x[1], y[1]), (6, -3), textcoords="offset points", fontsize=8,
                      color=color)
    peak = r.peaks[-1]
    left.axhline(peak, color="#222222", lw=1)
    left.annotate(f"a plain read of memory: {peak:.0f} GB/s", (0.98, peak), (0, 7), ha="right",
                  xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9)
    left.set(xlabel="kB read in one phase of a token", ylabel="GB/s",
             yticks=[10, 20, 50, 100, 200], ylim=(min(10, left.get_ylim()[0]), 250))
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    left.minorticks_off()
    left.legend(loc="upper right", fontsize=9)
    names = list(r.seconds[0])
    place = np.arange(len(names))[::-1]
    for i, (found, color) in enumerate(zip(r.seconds, COLORS)):
        there = [j for j, way in enumerate(names) if way in found]
        right.barh(place[there] + 0.27 * (1 - i), [1 / found[names[j]] for j in there], 0.25,
                   color=color)
    right.set(xscale="log", xlabel="tokens a second", xlim=(10, None))
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.minorticks_off()
    right.set_yticks(place, [n.replace(": ", ":\n").replace(", ", ",\n") for n in names],
                     fontsize=8)
    token = whole(r.phases[-1])
    fig.suptitle(f"Reading {token[2] / 1e6:.0f} MB takes a token {1e3 * token[3]:.1f} ms, "
                 f"{token[2] / token[3] / 1e9 / peak:.0%} of the rate of a plain read:\n"
                 "the memory sets the pace, not the processor", x=0.01, ha="left", fontsize=11)
    save(fig, path)
