"""The figure of README.md: what the course's models reach, and how fast its code is.

Every number is read from a committed record. `python -m days write` draws it anew.
"""

import json
import tempfile
from pathlib import Path

from days import harness
from days.tools.checks import figures

NAME = "notes/promise.svg"
OURS, PEER, GREY = "#2e7d4f", "#c2571a", "0.45"


def draw(root, path):
    """Draw both panels into path."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.4), width_ratios=(1.1, 1))
    losses(left, root)
    speeds(right, root)
    harness.save(fig, path)


def read(root, name):
    return json.loads((root / name).read_text(encoding="utf-8"))


def losses(ax, root):
    """Held-out loss against seconds of training, each model as its own day measured it."""
    gpt, grams = read(root, "days/day35/result.json"), read(root, "days/day06/result.json")
    window, gru = read(root, "days/day16/result.json"), read(root, "days/day22/result.json")
    minute = read(root, "experiments/minute.json")
    counted = gpt["ngram_nats_per_char"]
    ax.axhline(counted, color=GREY, lw=0.8, ls=":")
    ax.plot(grams["fit_seconds"], counted, "s", color=GREY)
    ax.annotate(f"counting: {gpt['ngram_order']}-gram (day 6)", (grams["fit_seconds"], counted),
                (0, -14), textcoords="offset points", color=GREY)
    rows = {row[0]: row for row in gru["compared"]}
    network, recurrent = rows["day 16's network"], rows["GRU, keep 0"]
    points(ax, [(network[2], mean(network[4])), (window["network_seconds"], window["network"])],
           "neural n-gram\n(day 16)", "#3b6ea5", (-7, -16), ha="right")
    points(ax, [(recurrent[2], mean(recurrent[4]))], "GRU (day 22)", "#8a4fa3", (-7, -4),
           ha="right")
    ax.plot(gpt["val_seconds"], gpt["val_loss"], "o--", color=PEER, ms=4, mfc="white", lw=0.8)
    ax.annotate("on a sample", (gpt["val_seconds"][0], gpt["val_loss"][0]), (7, -3),
                textcoords="offset points", color=PEER, fontsize=8)
    points(ax, [(gpt["seconds"], gpt["val_nats_per_char"])], "GPT (day 35)", PEER, (8, -4), size=6)
    timed = [one for one in minute.values() if one["budget"].endswith(" s")]
    best = min(timed, key=lambda one: mean(nats(one)))
    counts = best["facts"]["goal"] == "B"
    points(ax, [(best["runs"][0]["seconds"], mean(nats(best)))],
           f"the minute's best:\nGPT{' and counts' * counts}", OURS, (-8, -27), "*", 12)
    lowest = mean(nats(best))
    ax.set_xscale("log")
    ax.set_xticks([1, 3, 10, 30, 60], ["1 s", "3 s", "10 s", "30 s", "60 s"])
    ax.minorticks_off()
    ax.set(xlabel="training on two cores", ylabel="nats per character of unseen Shakespeare",
           xlim=(0.3, 420), ylim=(min(lowest, counted) - 0.17, None))
    ax.set_title("Counting is hard to beat in a minute; a GPT that\nbuilds on counts beats it"
                 if counts and lowest < counted else
                 "Counting is hard to beat in a minute")


def points(ax, xy, text, color, offset, marker="o", size=5, ha="left"):
    """A curve with its name at its first point."""
    ax.plot(*zip(*xy), f"{marker}-", color=color, ms=size)
    ax.annotate(text, xy[0], offset, textcoords="offset points", color=color, ha=ha)


def nats(entry):
    return [run["nats"]["all"] for run in entry["runs"]]


def mean(values):
    return sum(values) / len(values)


def speeds(ax, root):
    """Tokens a second, ours and the peer's, side by side on a logarithmic axis."""
    rows = pairs(root)
    for y, (_, ours, peer, _) in enumerate(reversed(rows)):
        ax.plot([ours, peer], [y, y], color="0.8", lw=3, zorder=1)
        ax.plot(peer, y, "o", color=PEER, ms=6)
        ax.plot(ours, y, "o", color=OURS, ms=6)
        ax.annotate(f"{ours / peer:.1f}×", (max(ours, peer), y), (8, -3.5),
                    textcoords="offset points", color=OURS if ours > peer else PEER)
    ax.set_yticks(range(len(rows)), [f"{name}\n{who}" for name, _, _, who in reversed(rows)],
                  fontsize=8)
    ax.plot([], [], "o", color=OURS, label="this course")
    ax.plot([], [], "o", color=PEER, label="the peer named")
    ax.set_xscale("log")
    ax.set(xlabel="tokens/s on two cores", xlim=(10 ** 1.1, 10 ** 5.0))
    ax.legend(loc="lower right", fontsize=8.5)
    wins = sum(ours > peer for _, ours, peer, _ in rows)
    ax.set_title(f"Python, NumPy and Numba: faster than the peer\nin {wins} of {len(rows)} races")


def pairs(root):
    """[(what, our tokens/s, the peer's, who it is)], decoding first."""
    decode, training = (read(root, f"experiments/bench_{name}.json")
                        for name in ("decode", "training"))
    rows = [(f"SmolLM2, {case['case']}{' Q4_1' * (' ' not in case['case'])}", case["ours"],
             case["peer"], "llama.cpp")
            for case in decode["llama_cpp"]["cases"]
            if case["unit"] == "tokens/s" and not case["case"].startswith("context")]
    rows = sorted(rows, key=lambda row: "prefill" in row[0])
    for case in training["cases"]:
        name, _, shape = case["case"].partition(":")
        size = {key: int(n) for key, n in (part.split() for part in shape.split(","))}
        tokens = size["B"] * size["T"] * 1e3
        rows.append((f"training, {'GPT-2' if name == 'GPT-2' else name + ' GPT'}",
                     tokens / case["ours"], tokens / case["peer"], f"PyTorch {case['peer_is']}"))
    return rows


def drawn(root):
    """The figure as text, as the records say."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "promise.svg"
        harness.figure(lambda _, part: draw(root, part), None, path)
        return path.read_text(encoding="utf-8")


def faults(root):
    """Is the committed figure what the records draw?"""
    path = root / NAME
    if not path.is_file():
        return
    try:
        same = figures.alike(path.read_text(encoding="utf-8"), drawn(root))
    except Exception as error:
        yield f"{NAME}: cannot be drawn: {type(error).__name__}: {error}"
        return
    if not same:
        yield f"{NAME}: is not what the records draw; run `python -m days write`"
