"""Day 51 · The figure: loads over time, room, and a text coloured by its experts."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from days.day51.look import visible

COLOURS = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#9d755d"]


def draw_all(result, factors):
    """Four panels; returns the figure."""
    fig, axes = plt.subplots(2, 2, figsize=(9.6, 6.8))
    block = worst_block(result)
    for ax, row in zip(axes[0], result.history[:2], strict=True):
        loads = np.array(row[2])[:, block] * result.experts
        for i in range(result.experts):
            ax.plot(row[1], loads[:, i], color=COLOURS[i % len(COLOURS)], lw=1.2)
        ax.axhline(1, color="#444444", ls=":", lw=1)
        ax.set(xlabel="step", ylabel="load of each expert (mean 1)",
               ylim=(0, result.experts / result.k * 1.03),
               title=f"{row[0].split(', ')[1]}, block {block + 1}")
    room(axes[1, 0], result, factors)
    coloured(axes[1, 1], result)
    fig.suptitle(title(result, block), x=.01, ha="left", fontsize=10.5)
    return fig


def worst_block(result):
    """Where the load is most uneven at the end without a balance loss."""
    return int(np.argmax(np.max(result.history[0][2][-1], axis=1)))


def room(ax, result, factors):
    for at, (name, color, line) in enumerate((
            ("every expert equally likely", "#8a8a8a", ":"), ("α = 0", "#c4501b", "--"),
            ("α = 0.01", "#1f5a99", "-"))):
        ax.plot(factors, [100 * row[1 + at] for row in result.capacity], color=color, ls=line,
                marker="o", ms=3.5, label=name)
    ax.set(xlabel="capacity factor", ylabel="choices dropped, %", ylim=(0, None),
           title="Room for c times the mean load")
    ax.legend()


def coloured(ax, result, width=26, lines=7):
    """The beginning of the text, each character on the colour of its first choice in block 1."""
    text, experts = visible(result.text).replace("␣", " "), result.colours[0]
    for at in range(min(len(text), width * lines)):
        x, y = at % width, at // width
        ax.add_patch(Rectangle((x, -y), 1, 1, color=COLOURS[experts[at] % len(COLOURS)], alpha=.55,
                               lw=0))
        ax.text(x + .5, .45 - y, text[at], ha="center", va="center", family="monospace",
                fontsize=9)
    ax.set(xlim=(0, width), ylim=(1 - lines, 1), xticks=[], yticks=[],
           title="α = 0.01, block 1: a text and its experts")
    for side in ax.spines.values():
        side.set_visible(False)


def title(result, block):
    """The finding, from the numbers."""
    none, some = (result.experts * np.max(row[2][-1][block]) for row in result.history[:2])
    told = next(shares[0] for name, at, shares in result.dependence
                if name == "α = 0.01" and at == 1)
    return (f"Without a balance loss the busiest expert gets {none:.1f} times the mean load, with "
            f"α = 0.01 {some:.1f} times;\nin block 1 the token alone tells {100 * told:.0f} % of "
            "the choice")
