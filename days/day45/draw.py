"""Day 45 · The figure: what each way costs, and what it does to each layer."""

import numpy as np

from days.harness import save


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), width_ratios=[1.15, 1])
    rows = [row for row in result.rows if row[0] != "float32"][::-1]
    for y, (_, _, _, found) in enumerate(rows):
        at = y + 0.12 * (np.arange(len(found)) - (len(found) - 1) / 2)
        mean, error = np.transpose(found)
        left.errorbar(1e3 * mean, at, xerr=1e3 * error, fmt="o", ms=4, color="#1b4965", capsize=2)
    left.axvline(0, color="#bbbbbb", lw=1, zorder=0)
    left.set(yticks=range(len(rows)), yticklabels=[row[0] for row in rows],
             xlabel="thousandths of a nat a character more than float32")
    names = [name.removeprefix("blocks.").removesuffix(".w") for name, *_ in result.layers][::-1]
    y = np.arange(len(names))
    for column, way, color in ((3, "AWQ", "#c8553d"), (4, "GPTQ", "#1b4965")):
        right.plot([row[column] for row in result.layers][::-1], y, "o", color=color, ms=5,
                   label=way)
    right.axvline(1, color="#bbbbbb", lw=1, zorder=0)
    right.set(yticks=y, yticklabels=names, xlim=(0, None),
              xlabel="error on new inputs over that of nearest")
    right.legend(loc="center", bbox_to_anchor=(0.62, 0.5), frameon=True)
    nearest, gptq = (np.mean([m for m, _ in found]) for name, _, _, found in result.rows
                     if name in ("INT4, nearest", "INT4, GPTQ"))
    fig.suptitle(f"Rounded to nearest, four bits cost {1e3 * nearest:.1f} thousandths of a nat a "
                 f"character; by GPTQ {1e3 * gptq:.1f}", x=0.01, ha="left", fontsize=11)
    save(fig, path)
