"""Day 50 · The figure: memory and time against the length of the text, for all three ways."""

from days.harness import save

COLORS = {"NumPy": "#8a8a8a", "day 38": "#d08a2c", "flash": "#1f5a99"}


def draw(result, path):
    """Left: memory beyond the inputs. Right: time of forward and backward. Both on log axes."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2))
    lengths = [T for T, *_ in result.rows]
    for way, color in COLORS.items():
        points = [(T, memory[way] / 1e6) for T, _, memory in result.rows if memory.get(way)]
        if points:
            left.plot(*zip(*points), "o-", color=color, label=way)
        points = [(T, 1000 * sum(times[way])) for T, times, _ in result.rows if way in times]
        right.plot(*zip(*points), "o-", color=color, label=way)
    least = [4 * result.H * T * T / 1e6 for T in lengths]
    left.plot(lengths, least, ":", color="#555555", lw=1, label="H·T²·4 bytes: the weights alone")
    floor = [1000 * 7 * 2 * result.H * T * T * result.D / 2 / result.sgemm / 1e9 for T in lengths]
    right.plot(lengths, floor, ":", color="#555555", lw=1, label="seven products at sgemm's speed")
    left.set(title="memory of forward and backward, MB")
    right.set(title="time of forward and backward, ms")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="T, tokens")
        axes.set_xticks(lengths, [f"{T:,}" for T in lengths], fontsize=8)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=.25)
        axes.set_ylim(top=6 * axes.get_ylim()[1])                     # room for the legend
        axes.legend(fontsize=8, loc="upper left")
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers: at the longest text that all three can read."""
    T, times, memory = [row for row in result.rows if len(row[1]) == 3][-1]
    total = {way: sum(pair) for way, pair in times.items()}
    text = (f"{T:,} tokens: flash attention takes 1/{total['NumPy'] / total['flash']:.0f} "
            "of NumPy's time")
    if memory.get("flash"):
        text += f" and 1/{memory['NumPy'] / memory['flash']:.0f} of its memory"
    return text + ";\nits memory grows with T, theirs with T²"
