"""Day 47 · From many reports to the rows of the tables, and the figure."""

from statistics import median

import numpy as np

from days.day47.serving import percentiles
from days.harness import save

NUMBERS = ("tokens a second", "steps", "requests in a step", "first p50", "first p95", "first p99",
           "each p50", "each p95", "each p99", "first p95, least", "first p95, most")


def summed(reports):
    """NUMBERS of several streams: medians, and the range of one."""
    first, each = (np.array([percentiles(getattr(r, part)) for r in reports])
                   for part in ("first", "each"))
    return [median(r.tokens / r.seconds for r in reports), median(r.steps for r in reports),
            median(r.running for r in reports), *np.median(first, 0), *np.median(each, 0),
            first[:, 1].min(), first[:, 1].max()]


def block_row(size, window, reports):
    """[size, share unused, predicted from the mean text, at once, tokens/s, read again, share]"""
    unused, running, speed = (float(np.mean([value(r) for r in reports])) for value in (
        lambda r: r.unused, lambda r: r.crowded, lambda r: r.tokens / r.seconds))
    held = np.mean([r.held for r in reports])
    wasted = (size - 1) / 2 if size < window else window - held
    return [size, unused, wasted / (held + wasted), running, speed,
            float(np.mean([r.reread / r.read for r in reports]))]


def share_row(shared, reports):
    first = np.median([percentiles(r.first) for r in reports], 0)
    return [shared, sum(r.read for r in reports), sum(r.reused for r in reports),
            median(r.tokens / r.seconds for r in reports), *first[:2].tolist()]


def size_table(result):
    return [["tokens a block", "unused", "predicted", "at once", "tokens/s", "read again"]] + [
        [size, f"{100 * a:.1f} %", f"{100 * b:.1f} %", f"{running:.1f}", f"{speed:,.0f}",
         f"{100 * again:.1f} %"] for size, a, b, running, speed, again in result.sizes]


def rows_table(result):
    wide = {int(B): ms for B, ms in result.wide.items()}
    small = {int(B): ms for B, ms in result.small.items()}
    return [["B", "small: ms a step", "tokens/s", "wide: ms a step", "tokens/s", "roofline, ms",
             "FLOPs a byte"]] + [
        [B, f"{small[B]:.2f}", f"{1e3 * B / small[B]:,.0f}", f"{wide[B]:.1f}",
         f"{1e3 * B / wide[B]:,.0f}", f"{ms:.1f}", f"{flops / size:.1f}"]
        for B, flops, size, ms in result.costs]


def places_table(result):
    return [["at once", "static: tokens/s", "steps", "continuous: tokens/s", "steps"]] + [
        [most, *(f"{x:,.0f}" for name in both for x in both[name])]
        for most, both in result.places]


def share_table(result):
    return [["shared", "tokens read", "reused", "tokens/s", "first token, ms: p50", "p95"]] + [
        ["yes" if shared else "no", f"{read:,}", f"{reused:,}", f"{speed:,.0f}", f"{a:,.0f}",
         f"{b:,.0f}"] for shared, read, reused, speed, a, b in result.sharing]


def company_table(result):
    return [["product", "rows with other bits", "requests with other tokens"]] + [
        [name, f"{100 * share:.1f} %", f"{changed} of {count}"]
        for name, share, changed, count in result.company]


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4))
    for name, color in (("static", "#c8553d"), ("continuous", "#1b4965")):
        some = [(share, both[name]) for share, _, both in result.loads if share]
        x, n = [100 * share for share, _ in some], [n for _, n in some]
        left.plot(x, [row[4] for row in n], "o-", color=color, ms=4, label=f"{name}, 95th")
        left.plot(x, [row[3] for row in n], "o:", color=color, ms=4, label=f"{name}, median")
    left.set(xlabel="requests that come, % of what continuous batching can serve",
             ylabel="ms from arrival to the first token", yscale="log")
    left.yaxis.set_major_formatter("{x:,g}")
    left.legend(loc="center right", fontsize=8)
    B = [row[0] for row in result.costs]
    right.loglog(B, [1e3 * b / row[3] for b, row in zip(B, result.costs)], "--", color="#888888",
                 label="roofline")
    wide = {int(b): ms for b, ms in result.wide.items()}             # JSON's keys are strings
    right.loglog(B, [1e3 * b / wide[b] for b in B], "o-", color="#1b4965", ms=4,
                 label="measured")
    right.axhline(1e3 / wide[0], color="#c8553d", lw=1, label="compiled engine, one text")
    right.set(xlabel="texts in a step, B", ylabel="tokens a second, 41M weights", xticks=B,
              xticklabels=B, yticks=[200, 500, 1000, 2000])
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.minorticks_off()
    right.legend(loc="upper left", fontsize=8)
    both = result.loads[0][2]
    fig.suptitle(f"At most {result.most} at once, whoever is done makes room: "
                 f"{both['continuous'][0] / both['static'][0]:.1f} times the tokens a second.\n"
                 "A step reads the weights once, for one text or for many", x=0.01, ha="left",
                 fontsize=11)
    save(fig, path)
