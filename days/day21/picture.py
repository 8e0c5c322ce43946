"""Day 21 · The day's figure: sizes by depth before training, and the loss by step."""

import numpy as np

from days.harness import save

COLORS = {"no norm": "#555555", "no norm, gain 1.5": "#555555",
          "LayerNorm": "#c2571a", "BatchNorm": "#1f5fa8"}
NAMES = {"no norm": "no norm, gain 1"}


def draw(result, path):
    """Left: sizes by depth for five starts. Right: the loss of the four trained kinds."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.6))
    sizes(left, result)
    curves(right, result)
    save(fig, path)


def sizes(axes, result):
    """The norms' curves are wide bands, five on each other; the others are drawn on top."""
    depth = range(1, result.deep + 1)
    for kind, width, place in (("LayerNorm", 12, 1.3), ("BatchNorm", 4, 8)):
        for found in result.scales[kind]:
            axes.semilogy(depth, found, color=COLORS[kind], lw=width, alpha=0.12)
        axes.text(place, 1.9, kind, color=COLORS[kind])
    for gain, found in zip(result.gains, result.scales["no norm"]):
        axes.semilogy(depth, found, color=COLORS["no norm"], lw=1.2)
        lift = 1.5 if gain == result.gains[-1] else 0.75 if found[-1] > 0.5 else 1
        axes.text(result.deep + 0.5, found[-1] * lift, f"gain {gain:g}", color=COLORS["no norm"],
                  va="center", fontsize=9)
    axes.text(1.3, result.scales["no norm"][0][-1], "thin lines: no norm",
              color=COLORS["no norm"])
    ends = [found[-1] for kind in ("LayerNorm", "BatchNorm") for found in result.scales[kind]]
    axes.set(xlabel="layer", xlim=(1, result.deep + 4.5), xticks=(1, 5, 10, 15, 20),
             ylabel="size of its outputs (standard deviation)", ylim=(None, 6))
    axes.set_title(f"With either norm the size after {result.deep} layers is\n{min(ends):.2f} to "
                   f"{max(ends):.2f}, whatever the start's gain")


def curves(axes, result):
    """The training losses, each with its name and its loss on unseen text at the end."""
    height = -np.inf
    for kind, curve in sorted(result.curves.items(), key=lambda item: item[1][-1]):
        steps = np.arange(len(curve)) + result.steps - len(curve)
        axes.plot(steps, curve, color=COLORS[kind], ls="--" if "gain" in kind else "-")
        height = max(curve[-1], height + 0.2)                    # labels must not meet
        axes.text(result.steps * 1.02, height, f"{NAMES.get(kind, kind)}\nunseen text: "
                  f"{result.unseen[kind][0]:.2f}", color=COLORS[kind], va="center",
                  fontsize=9)
    axes.set(xlabel="step", ylabel="training loss, mean of 25 steps",
             xlim=(0, 1.45 * result.steps), xticks=np.linspace(0, result.steps, 6))
    axes.set_title(f"{result.layers} layers, best rates: BatchNorm trains to\n"
                   f"{result.curves['BatchNorm'][-1]:.2f}, LayerNorm to "
                   f"{result.curves['LayerNorm'][-1]:.2f}, no norm to "
                   f"{result.curves['no norm, gain 1.5'][-1]:.2f} or "
                   f"{result.curves['no norm'][-1]:.2f}")
