"""Day 56 · The figure of run.py."""

import numpy as np

from days.harness import save


def draw(result, path):
    """Left: agreement by gap and its limit. Middle: calibration. Right: the best of n."""
    import matplotlib.pyplot as plt
    if result.own:
        fig, ax = plt.subplots()
        ax.plot(result.own["losses"], color="#1f5a99")
        ax.set(xlabel="step", ylabel="loss, nats", title=f"{result.own['train']} pairs of your own:"
               f" {100 * result.own['agreement']:.0f} % of the held-out ones in order")
        return save(fig, path)
    fig, (left, mid, right) = plt.subplots(1, 3, figsize=(10.4, 3.9))
    told, got = [row[3] for row in result.gaps], [row[4] for row in result.gaps]
    left.plot([.5, 1], [.5, 1], color="#8a8a8a", ls="--", lw=1, label="the best there is")
    left.errorbar(told, np.mean(got, 1), spread(got), fmt="o-", color="#1f5a99", capsize=3,
                  label="reward model")
    left.set(xlabel="σ(gap): how sure a labeller is", ylabel="agreement with fresh labels")
    left.legend(loc="upper left", fontsize=8)
    said, true, _ = zip(*result.calibration, strict=True)
    mid.plot([.5, 1], [.5, 1], color="#8a8a8a", ls="--", lw=1, label="calibrated")
    mid.plot(said, true, "o-", color="#1f5a99", label="reward model")
    mid.set(xlabel="σ(margin): how sure the model is", ylabel="σ(gap): how sure it should be")
    mid.legend(loc="upper left", fontsize=8)
    ns = [row[0] for row in result.curve]
    for column, color, name in ((3, "#c2571a", "reward · noise"), (4, "#1f5a99", "true utility")):
        y = [row[column] for row in result.curve]
        y = np.array(y) - np.array(y[0])
        right.errorbar(ns, y.mean(1), spread(y), fmt="o-", ms=4, color=color, capsize=2, label=name)
    right.plot(ns, np.array(result.oracle) - result.oracle[0], color="#8a8a8a", ls="--", lw=1,
               label="chosen by utility")
    right.set(xlabel="n", xscale="log", ylabel="best of n: gain over one answer")
    right.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    right.legend(loc="center right", bbox_to_anchor=(1, .64), fontsize=8)
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def spread(rows):
    """Distances of the lowest and highest seed from the mean, as errorbar wants them."""
    rows = np.array(rows)
    return np.array([rows.mean(1) - rows.min(1), rows.max(1) - rows.mean(1)])


def title(result):
    """The finding, from the numbers."""
    best, got = result.families[0][1], np.mean(result.families[0][2])
    gain = np.mean(result.curve[-1][4]) - np.mean(result.curve[0][4])
    most = result.oracle[-1] - result.oracle[0]
    return (f"A fresh label agrees with the reward model {100 * got:.0f} % of the time, and "
            f"{100 * best:.0f} % at best;\nthe best of {result.curve[-1][0]:,} by its reward "
            f"gains {gain:.1f} of utility, and {most:.1f} could be had")
