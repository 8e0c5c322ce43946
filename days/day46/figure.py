"""Day 46 · The figure: tokens for each pass, and what a pass over several ids costs."""

from days.harness import save
from llm.generate.speedup import expected_tokens

PLAIN, ENGINE, WIDE = "day 42, NumPy", "day 43, compiled", "day 43, a wide model"


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.2))
    colors = ["#c8553d", "#b58900", "#1b4965", "#6a994e"]
    for i, ((name, rows), color) in enumerate(zip(result.grid["1.0"].items(), colors)):
        tokens, error = [row[0] for row in rows], [row[3] for row in rows]
        places = [gamma + 0.09 * (i - 1) for gamma in result.gammas]
        left.errorbar(places, tokens, error, fmt="o", ms=4, capsize=2, color=color,
                      label=name)
        dense = range(1, result.gammas[-1] + 1)
        if name in result.own:
            left.plot(dense, [expected_tokens(result.own[name], g) for g in dense], color=color,
                      lw=1)
    left.plot([], color="#888888", lw=1, label="lines: the formula, with α = Σ min(p, q)")
    left.set(xlabel="guesses γ", ylabel="new tokens a pass, temperature 1", xticks=result.gammas)
    left.set_ylim(0.9, left.get_ylim()[1] * 1.25)
    left.legend(loc="upper left", fontsize=8)
    for (name, rows), color in zip(result.passes.items(), ["#1b4965", "#c8553d", "#6a994e"]):
        right.plot([n for n, _ in rows], [ms / rows[0][1] for _, ms in rows], "o-", ms=4,
                   color=color, label=name)
    right.set(xlabel="ids read in one pass", ylabel="cost, in passes of one id", yscale="log",
              xticks=[n for n, _ in rows if n != 2 and n != 4])
    right.yaxis.set_major_formatter("{x:g}")
    right.set_ylim(0.8, right.get_ylim()[1] * 4)
    right.legend(loc="upper left", fontsize=8)
    cost = {name: dict(rows)[result.passes[name][-2][0]] / rows[0][1]
            for name, rows in result.passes.items()}
    size = result.passes[PLAIN][-2][0]
    fig.suptitle(f"A pass over {size} ids costs {cost[PLAIN]:.1f} passes of one in NumPy and "
                 f"{cost[WIDE]:.1f} in a model bound by memory,\nbut {cost[ENGINE]:.0f} where one "
                 "id is compiled and in cache: guessing pays where a pass is dear", x=0.01,
                 ha="left", fontsize=11)
    save(fig, path)
