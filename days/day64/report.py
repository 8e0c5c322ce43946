"""Day 64 · The tables and the figure of a Result."""

from days.harness import save

MB = 1e6
STAGES = [("python", "Python"), ("numpy", "NumPy"), ("imports", "Numba and the course"),
          ("open", "the model, opened"), ("written", "while it writes")]


def wrong_table(result):
    return [["config.json", "nats a character", "largest change of a logit",
             "other next token, %"]] + [
        [name, f"{nats:.3f}", f"{far:.2g}", f"{100 * other:.1f}"]
        for name, nats, far, other in result.wrong]


def crowd_table(result):
    return [["clients", "tokens/s", "ms to the first: p50", "p95", "ms to the end, mean",
             "inside, counted", "inside, by Little", "lost", "changed"]] + [
        [c["clients"], f"{c['rate']:,.0f}", *(f"{1e3 * s:.1f}" for s in c["first"]),
         f"{1e3 * c['response']:.0f}", f"{c['inside']:.1f}", f"{c['asked'] * c['response']:.1f}",
         c["lost"], c["changed"]] for c in result.crowds]


def edge_table(result):
    return [["model", "cache", "weights, MB", "cache, MB", "all memory, MB", "of it before the "
             "model", "s to the first token", "tokens/s", "limit by reading"]] + [
        [e["name"], f"{e['T']:,} × {16 if e['half'] else 32} bits" + (
            "" if e["huge"] else ", small pages"), f"{e['weights'] / MB:.1f}",
         f"{e['cache'] / MB:.1f}", f"{e['written'] / MB:.0f}", f"{e['imports'] / MB:.0f}",
         f"{e['first']:.2f}", f"{e['rate']:,.0f}", f"{e['read'] / e['weights']:,.0f}"]
        for e in result.edges]


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    edges = [e for i, e in enumerate(result.edges)
             if e["name"] not in [before["name"] for before in result.edges[:i]]]
    colours = ["#c9c9c9", "#9db4c8", "#5b8db8", "#c4501b", "#e9a184"]
    for j, e in enumerate(edges):
        below = 0
        for (key, name), colour in zip(STAGES, colours):
            left.bar(j, (e[key] - below) / MB, bottom=below / MB, color=colour, width=0.55,
                     label=name if j == 0 else None)
            below = e[key]
        left.annotate(f"{below / MB:.0f} MB\n{e['rate']:,.0f} tokens/s", (j, below / MB), (0, 3),
                      textcoords="offset points", ha="center", fontsize=9)
    left.set_xticks(range(len(edges)), [e["name"] for e in edges])
    left.set(ylabel="MB of memory, one thread", xlim=(-0.6, len(edges) - 0.4),
             ylim=(0, 1.45 * max(e["written"] for e in edges) / MB))
    left.legend(fontsize=8, ncols=2, loc="upper left", reverse=True)
    count = [c["clients"] for c in result.crowds]
    right.plot(count, [c["rate"] for c in result.crowds], "o-", color="#1f5a99")
    right.set_xscale("log", base=2)
    right.set_xticks(count, count)
    right.set_xlabel("clients at once")
    right.set_ylabel("tokens a second, all together", color="#1f5a99")
    right.set_ylim(bottom=0)
    right.axvline(result.most, color="#999999", lw=0.8, ls=":")
    right.annotate(f"{result.most} places in the batch ", (result.most, right.get_ylim()[1]),
                   (0, -8), textcoords="offset points", fontsize=8, color="#666666", ha="right")
    other = right.twinx()
    other.plot(count, [1e3 * c["first"][0] for c in result.crowds], "s--", color="#c4501b")
    other.set_ylabel("ms to the first token, median", color="#c4501b")
    other.set_yscale("log")
    other.spines["right"].set_visible(True)
    first = edges[0]
    fig.suptitle(f"{100 * first['imports'] / first['written']:.0f} % of the memory is taken "
                 "before our model is opened; beyond the batch, more clients only wait",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)
