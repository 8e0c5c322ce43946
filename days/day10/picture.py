"""Day 10 · The day's figure: five activations above, the networks and their errors below."""

import numpy as np

from days.harness import save
from llm.functions import dense

BLUE, ORANGE, RED, GREY = "#1f5f8b", "#d99a2b", "#b3442e", "#777777"


def draw(result, path):
    """Above: the activations. Below: the curve with three networks, and error against bound."""
    import matplotlib.pyplot as plt
    fig, ((hinges, ends), (nets, errors)) = plt.subplots(2, 2, figsize=(8.6, 7.4))
    x = np.linspace(-4, 4, 401)
    for f, colour, name, at in ((dense.relu, RED, "ReLU", (2.9, 2.1)),
                                (dense.gelu, BLUE, "GELU", (-1.7, .25)),
                                (dense.silu, ORANGE, "SiLU", (-3.9, -.5))):
        hinges.plot(x, f(x), color=colour, lw=1.6)
        hinges.text(*at, name, color=colour)
    hinges.set(title="one hinge, sharp or rounded", xlabel="x", ylabel="activation",
               ylim=(-.7, 3), xlim=(-4, 4))
    for f, colour, name, at in ((dense.sigmoid, BLUE, "sigmoid", (-3.9, .15)),
                                (dense.tanh, RED, "tanh", (-3.9, -.87))):
        ends.plot(x, f(x), color=colour, lw=1.6)
        ends.text(*at, name, color=colour)
    ends.set(title="flat at both ends", xlabel="x", ylabel="activation", xlim=(-4, 4))
    networks(nets, result)
    errors.plot(result.hinges, result.bound, ":", color=GREY)
    errors.plot(result.hinges, result.worst, "o-", ms=4, color=BLUE)
    errors.text(5, 2.2, "the bound, h²/8 · max |F″|", color=GREY)
    errors.text(2.2, .12, "measured", color=BLUE)
    errors.set(title="twice the hinges, a quarter of the error", xscale="log", yscale="log",
               xlabel="hinges", ylabel="largest error",
               xticks=result.hinges, xticklabels=result.hinges)
    errors.minorticks_off()
    fig.suptitle(f"A sum of hinges draws a curve: with {result.hinges[-2]} it errs by at most "
                 f"{result.worst[-2]:.5f}, with {result.hinges[-1]} by {result.worst[-1]:.5f}",
                 x=.01, ha="left", fontsize=11)
    save(fig, path)


def networks(axes, result):
    """The curve, wide and grey, and the networks; the one with more hinges lies on top, thinner."""
    grid = np.linspace(0, 2 * np.pi, len(result.curve))
    axes.plot(grid, result.curve, color="#c8c8c8", lw=9, solid_capstyle="round", label="the curve")
    for (m, values), colour, width in zip(result.fits, (RED, ORANGE, BLUE), (1.4, 4, 1.4)):
        axes.plot(grid, values, color=colour, lw=width, label=f"{m} hinges")
    axes.legend(loc="upper right")
    axes.set(title="the curve and three networks", xlabel="x", ylabel="F(x) and f(x)",
             xticks=[0, np.pi / 2, np.pi, 3 * np.pi / 2, 2 * np.pi],
             xticklabels=["0", "π/2", "π", "3π/2", "2π"])
