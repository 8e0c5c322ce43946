"""Day 61 · The tables and the figure."""

import numpy as np

from days.day61.scaling import median, model_step
from days.harness import save
from llm.scale.link import Link

BLUE, RED, GREEN, GREY = "#1b4965", "#c8553d", "#6a994e", "#8a8a8a"
COLORS = {"ring": BLUE, "tree": GREEN, "root": RED}


def table(result):
    rows = [["ranks", "ring, ms", "tree, ms", "root, ms", "sent by a rank, MB: ring",
             "by the busiest: tree", "root"]]
    for p, ways in result.rows:
        sent = [f"{ways[way][2] / 1e6:.2f}" if ways[way][2] else "" for way in COLORS]
        rows.append([f"{p:,}", *(f"{1e3 * ways[way][0]:.2f}" for way in COLORS), *sent])
    return rows


def beyond_table(result):
    """Weak scaling: the same work for each rank, then an all-reduce that nothing hides."""
    rows = [["ranks", "efficiency, ring", "tree", "better of the two"]]
    for p, ways in result.rows:
        ring, tree = (result.step / (result.step + ways[way][0]) for way in ("ring", "tree"))
        rows.append([f"{p:,}", f"{100 * ring:.0f} %", f"{100 * tree:.0f} %",
                     "ring" if ring >= tree else "tree"])
    return rows


def overlap_table(result):
    alone = result.overlap[0][2]
    rows = [["gradients travel as", "buckets", "step, ms", "communication adds, ms", "model, ms"]]
    for (name, buckets, times), (_, more) in zip(result.overlap, result.overlap_model):
        rows.append([name, buckets or "", f"{1e3 * median(times):.0f}",
                     f"{1e3 * median(t - one for t, one in zip(times, alone)):.0f}",
                     f"{1e3 * more:.0f}"])
    return rows


def real_table(result):
    rows = [["ranks", "step, ms", "model, ms", "without talking, ms", "ring, ms", "model, ms ",
             "efficiency"]]
    if result.real:
        rows.append(["1", f"{1e3 * result.real[0]['one'][1]:.1f}", "", "", "", "", "100 %"])
    for row in result.real:
        rows.append([row["ranks"], *(f"{1e3 * x:.1f}" for x in (
            row["together"][1], row["model"], row["apart"][1])),
            *(f"{1e3 * x:.2f}" for x in (row["ring"][1], row["ring_model"])),
            f"{100 * row['efficiency']:.0f} %"])
    return rows


def title(result):
    _, last = result.rows[-1]
    slower = last["ring"][0] > last["tree"][0]
    first = ("Around a ring the bytes hardly grow with the ranks; the latency does"
             if slower else "The ring sends the fewest bytes")
    if not result.real:
        return first
    two = result.real[0]
    return (f"{first}.\n{two['ranks']} real ranks on {two['cores']} cores: "
            f"{100 * two['efficiency']:.0f} % efficiency, "
            f"{100 * result.real[0]['one'][1] / two['ranks'] / two['model']:.0f} % by the model")


def draw(result, path):
    """Left: an all-reduce on a link, on paper and simulated. Right: real ranks and their model."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.3))
    ranks = [p for p, _ in result.rows]
    for way, color in COLORS.items():
        left.plot(ranks, [1e3 * ways[way][0] for _, ways in result.rows], color=color, lw=1.5,
                  label=f"{way}, formula")
        done = [(p, 1e3 * ways[way][1]) for p, ways in result.rows if ways[way][1] is not None]
        left.plot(*zip(*done), "o", color=color, ms=4.5, label=f"{way}, simulated")
    left.set(xscale="log", yscale="log", xlabel="ranks", ylabel="one all-reduce, ms",
             xticks=[p for p in (2, 8, 64, 1024) if p <= ranks[-1]])
    left.set_xticklabels([f"{p:,}" for p in (2, 8, 64, 1024) if p <= ranks[-1]])
    left.minorticks_off()
    left.legend(fontsize=8, ncols=1)
    measured_panel(right, result)
    fig.suptitle(title(result), x=0.01, ha="left", fontsize=11)
    save(fig, path)


def measured_panel(ax, result):
    """Steps a second of p ranks with the same batch, over those of one."""
    if not result.real:
        ax.text(0.5, 0.5, "start with mpirun\nto see real ranks here", ha="center", va="center",
                transform=ax.transAxes, color=GREY)
        ax.set(xticks=[], yticks=[])
        return
    two = result.real[0]
    link, B = Link(two["alpha"], two["beta"]), two["B"]
    one = two["one"][1]
    p = np.array([1, 2, 4, 8, 16])
    ax.plot(p, p, color=GREY, ls=":", lw=1, label="no loss at all")
    ax.plot(p, [one / model_step(two["line"], B, q, q, link, result.bytes) for q in p.tolist()],
            color=BLUE, lw=1.5, label="model, a core for each rank")
    ax.plot(p, [one / model_step(two["line"], B, q, two["cores"], link, result.bytes)
                for q in p.tolist()], color=BLUE, ls="--", lw=1.5,
            label=f"model, {two['cores']} cores for all")
    points = [(row["ranks"], *(one / x for x in row["together"])) for row in result.real]
    for n, high, middle, low in points:
        ax.errorbar([n], [middle], [[middle - low], [high - middle]], fmt="o", color=RED, ms=5,
                    capsize=3, label="measured over MPI" if n == points[0][0] else None)
    ax.set(xscale="log", yscale="log", xlabel=f"ranks, all with one batch of {B} rows",
           ylabel="times as fast as one rank", xticks=p, yticks=p)
    ax.set_xticklabels(map(str, p))
    ax.set_yticklabels(map(str, p))
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="upper left")
