"""Day 63 · What the note and the figure need of the committed study, in numbers and in words."""

import json
import math
import statistics

import numpy as np

from days.day63 import ranking
from days.day63.few_seeds import paired
from days.day63.variants import AGAIN, BASELINE
from days.harness import ROOT, UsageError


def committed(path=ROOT / "experiments" / "ablations.json"):
    """The record of the whole study. UsageError where there is none to speak of."""
    if not path.exists() or (record := json.loads(path.read_text(encoding="utf-8")))["seeds"] < 2:
        raise UsageError(f"{path.name} holds no study: make it with "
                         "python experiments/ablations.py --out experiments")
    return record


def summary(record):
    """The main numbers of a record, its ranking, and what they say."""
    rows, ranked = record["variants"], ranking.ranked(record)
    base = rows[BASELINE]["losses"]
    both = [float(np.corrcoef(rows[name]["losses"], base)[0, 1]) for name in ranked
            if name != AGAIN]
    real = [name for name in ranked if rows[name]["real"]]
    return {
        "seeds": record["seeds"], "runs": record["runs"], "tests": record["tests"],
        "minutes": record["cpu_minutes"], "typical": 60 * record["cpu_minutes"] / record["runs"],
        "parameters": rows[BASELINE]["parameters"], "baseline": statistics.mean(base),
        "sd": statistics.stdev(base), "spread": record["spread"], "needed": record["needed"],
        "correlation": statistics.median(both), "real": len(real),
        "better": listed([name for name in real if rows[name]["mean"] < 0]),
        "worse": listed([name for name in real if rows[name]["mean"] > 0]),
        "control": [rows[AGAIN][k] for k in ("mean", "low", "high")],
        "causes_said": causes_said(record["table"]), "larger_said": larger_said(record["larger"]),
        "waiting_said": "" if not record["waiting"] else
        f"Not finished yet, and so without a row: {listed(record['waiting'])}.",
        "loud_said": loud_said(rows),
        "ranking": [[name, *(rows[name][k] for k in ("mean", "low", "high", "p", "holm", "real"))]
                    for name in ranked]}


def listed(names):
    """“a”, “b” and “c”; "none" where there are none."""
    names = [f"“{name}”" for name in names]
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def causes_said(table):
    """Which of the two seeds the baseline's loss depends on, in a sentence or two."""
    if not table:
        return "This part of the study has not been run yet."
    start, order, rest = (math.sqrt(max(table[k], 0)) for k in ("start", "order", "rest"))
    size = len(table["losses"])
    return (f"The baseline was trained with {size} starts × {size} orders. The standard deviation "
            f"that comes from the start alone is {start:.4f} nats, from the order alone "
            f"{order:.4f}, and from what only the two together explain {rest:.4f}. (A variance "
            f"that is estimated below 0 is shown as 0; with {size} of each, such estimates are "
            "rough.)")


def loud_said(rows):
    """Does post-norm's difference vanish where embeddings enter the stream 50 times larger?"""
    quiet = rows.get("post-norm")
    if not quiet or not {"loud embedding", "loud, post-norm"} <= rows.keys():
        return "This control has not been run yet."
    loud = paired(rows["loud, post-norm"]["losses"], rows["loud embedding"]["losses"])
    if loud["low"] <= 0 <= loud["high"]:
        verdict = "That cannot be told apart from 0, as the explanation demands."
    elif abs(loud["mean"]) < abs(quiet["mean"]) / 2 or loud["mean"] * quiet["mean"] < 0:
        verdict = "So the explanation accounts for most of the difference, not for all of it."
    else:
        verdict = "So the explanation is refuted: most of the difference stays."
    return (f"Post-norm less pre-norm is {quiet['mean']:+.4f} nats with embeddings as they are. "
            f"With loud ones it is {loud['mean']:+.4f} (interval {loud['low']:+.4f} to "
            f"{loud['high']:+.4f}). {verdict}")


def larger_said(larger):
    """What became of the largest effects with four times the parameters, in sentences."""
    if not larger:
        return "This part of the study has not been run yet."
    base = larger[0]
    said = [f"The {len(larger) - 1} variants that lay furthest from the baseline while rates were "
            f"chosen were run again with {base['parameters']:,} parameters in the baseline and "
            f"{len(base['losses'])} seeds."]
    for r in larger[1:]:
        said.append(f"“{r['name']}” diverged there." if "mean" not in r else
                    f"“{r['name']}” differs there by {r['mean']:+.4f} nats (interval "
                    f"{r['low']:+.4f} to {r['high']:+.4f}).")
    return " ".join(said)
