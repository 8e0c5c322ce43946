"""Day 62 · The tables and the figure."""

from days.harness import save

BLUE, RED, GREEN, GREY = "#1b4965", "#c8553d", "#6a994e", "#b8b8b8"


def table(result):
    rows = [["way", "ranks", "weights apart, float64", "losses apart, float32",
             "all send in a step, kB", "by the formula", "messages"]]
    for way, p, weights, losses, sent, formula, messages in result.ways:
        rows.append([way, p, f"{weights:.0e}", f"{losses:.0e}", f"{sent / 1e3:.1f}",
                     f"{formula / 1e3:.1f}", f"{messages:.0f}"])
    return rows


def bubble_table(result):
    rows = [["ranks p", "microbatches m", "(p−1)/(m+p−1)", "GPipe waits", "1F1B waits",
             "GPipe keeps", "1F1B keeps"]]
    for p, m, formula, (gw, gk), (ow, ok) in result.bubbles:
        rows.append([p, m, *(f"{100 * x:.1f} %" for x in (formula, gw, ow)), gk, ok])
    return rows


def memory_table(result):
    rows = [["stage", "parameters", "gradients", "moments", "predicted", "measured",
             "less other objects"]]
    for stage, found, predicted, *parts in result.memory:
        rows.append([stage, *(f"{x / 1e3:.0f}" for x in (*parts, predicted, found,
                                                         found - result.objects))])
    return rows


def paper_table(result):
    rows = [["ranks", "bubble, m = 64", *(f"stage {stage}, GB" for stage in range(4))]]
    for p, share, stages in result.paper:
        rows.append([f"{p:,}", f"{100 * share:.1f} %", *(f"{x / 1e9:.1f}" for x in stages)])
    return rows


def draw(result, path):
    """Left: two orders of a pipeline on a clock. Right: memory by ZeRO stage."""
    import matplotlib.pyplot as plt
    fig = plt.figure(figsize=(9.4, 4.4))
    parts = fig.add_gridspec(2, 2, width_ratios=[1.7, 1])
    for k, (name, rows) in enumerate(zip(("GPipe", "1F1B"), result.lanes)):
        ax = fig.add_subplot(parts[k, 0])
        lane(ax, rows)
        kept = [most for most, _ in result.model_bubbles[k][1]]
        ax.set_title(f"{name}: the ranks keep {', '.join(map(str, kept))} microbatches at most",
                     fontsize=9)
        ax.set_xlabel("seconds on the virtual clock (blue: forward, green: backward)" if k else "")
    memory(fig.add_subplot(parts[:, 1]), result)
    p, m = result.shape
    share = result.model_bubbles[0][0], result.model_bubbles[1][0]
    same = "Both orders wait" if abs(share[0] - share[1]) < 1e-9 else "The orders wait otherwise:"
    least = result.memory[-1][1] / result.memory[0][1]
    fig.suptitle(f"{same} {100 * share[1]:.0f} % of the time, 1F1B keeps fewer activations. "
                 f"ZeRO 3 on {result.ranks} ranks: {100 * least:.0f} % of the memory", x=0.01,
                 ha="left", fontsize=10.5)
    save(fig, path)


def lane(ax, rows):
    for rank, row in enumerate(rows):
        for kind, i, start, end in row:
            ax.barh(rank, end - start, left=start, height=0.86, edgecolor="white", lw=0.8,
                    color=BLUE if kind == "F" else GREEN)
            ax.text((start + end) / 2, rank, i, ha="center", va="center", color="white",
                    fontsize=7)
    ax.set(yticks=range(len(rows)), yticklabels=[f"rank {r}" for r in range(len(rows))])
    ax.invert_yaxis()


def memory(ax, result):
    """Stacked: what the formulas say; a mark: what was measured, less Python's other objects."""
    at = [row[0] for row in result.memory]
    below = [0.0] * len(at)
    for k, (name, color) in enumerate((("parameters", BLUE), ("gradients", GREEN),
                                       ("moments", GREY))):
        height = [row[3 + k] / 1e3 for row in result.memory]
        ax.bar(at, height, bottom=below, color=color, width=0.65, label=f"{name}, predicted")
        below = [a + b for a, b in zip(below, height)]
    ax.plot(at, [(row[1] - result.objects) / 1e3 for row in result.memory], "D", color=RED, ms=6,
            label="measured, less other objects")
    ax.set(xticks=at, xlabel="ZeRO stage", ylabel=f"kB a rank, {result.ranks} ranks",
           ylim=(0, 1.45 * max(below)))
    ax.set_title("after the backward pass", fontsize=9)
    ax.legend(fontsize=7.5, loc="upper right")
