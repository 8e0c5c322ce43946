"""Day 63 · The report of the study: which differences are real, in a table, a text and a figure.

Reads the ledger through the plan and nothing else. Left out: any number that is not computed from
recorded runs.
"""

import math
import statistics

from days.day63 import few_seeds as ours
from days.day63.ranking import forest, ranked, shown
from days.day63.variants import AGAIN, BASELINE
from days.harness import print_table, save
from experiments import ablations_choice as choice


def analyse(plan, ledger, finished):
    """The whole record: rows in the order of the plan, verdicts corrected for their number."""
    rows = {name: row(plan, ledger, name) for name in plan.variants()}
    waiting = [name for name, r in rows.items() if len(r["losses"]) < len(plan.report)]
    rows = {name: r for name, r in rows.items() if name not in waiting}
    n = 0 if BASELINE in waiting or len(rows) < 2 else len(plan.report)
    record = {"finished": finished, "seeds": n, "waiting": waiting, "level": plan.level,
              "runs": len(ledger.runs), "damaged": ledger.damaged, "variants": rows,
              "cpu_minutes": sum(run["seconds"] for run in ledger.runs.values()) / 60,
              "longest": max((run["seconds"] for run in ledger.runs.values()), default=0.0),
              "stamps": list(ledger.stamps.values()), "table": None, "larger": []}
    for r in rows.values():
        r["nats"] = statistics.mean(r["losses"])
    if n >= 2:
        compare(record, plan.level)
    if BASELINE not in waiting and not choice.table(plan, ledger):
        record["table"] = starts_and_orders(plan, ledger)
    if finished:
        record["larger"] = larger(plan, ledger)
    return record


def row(plan, ledger, name, larger=False, seeds=None):
    """What is known of one variant: its grid, its rate, its losses on the reporting half."""
    best = choice.chosen(plan, ledger, name, larger)[0]
    first = plan.choose[:1]
    grids = [[[choice.rate_at(plan, name, step), loss] for step, loss in
              choice.scores(plan, ledger, name, seeds, larger).items()]
             for seeds in (first, plan.choose)]
    rate = None if best is None else choice.rate_at(plan, name, best)
    runs = []
    for seed in plan.report if seeds is None else seeds:
        run = rate and choice.done(plan, ledger, name, rate, seed, seed, larger=larger)
        if not run:
            break
        runs.append(run)
    some = next((run for run in ledger.runs.values() if run["variant"] == name), {})
    return {"family": plan.variants()[name].family, "rate": rate, "screened": grids[0],
            "grid": grids[1], "parameters": some.get("parameters"),
            "losses": [run["report"] for run in runs], "chosen": [run["choose"] for run in runs],
            "seconds": statistics.mean(r["seconds"] for r in runs) if runs else None}


def compare(record, level):
    """Each variant against the baseline, seed by seed, then Holm over all of them."""
    rows = record["variants"]
    base = rows[BASELINE]["losses"]
    names = [name for name in rows if name != BASELINE]
    for name in names:
        losses = rows[name]["losses"]
        rows[name]["diverged"] = sum(not math.isfinite(x) for x in losses)
        if not rows[name]["diverged"]:
            rows[name] |= ours.paired(losses, base, level)
            rows[name]["apart"] = math.sqrt(statistics.variance(losses) + statistics.variance(base))
    tested = [name for name in names if not rows[name]["diverged"]]
    for name, p in zip(tested, ours.holm([rows[name]["p"] for name in tested]), strict=True):
        rows[name]["holm"], rows[name]["real"] = p, p <= level
    record["tests"] = len(tested)
    spreads = sorted(rows[name]["spread"] for name in tested if name != AGAIN)
    spread = statistics.median(spreads) if spreads else rows[tested[0]]["spread"]
    strict = level / len(tested)
    record["spread"] = spread
    record["needed"] = [[d, ours.seeds_needed(d / spread, level),
                         ours.seeds_needed(d / spread, strict)] for d in (0.05, 0.02, 0.01, 0.005)
                        if spread > 0]


def starts_and_orders(plan, ledger):
    """The baseline's losses by start (row) and order (column), and the variances behind them."""
    rate = choice.rate_at(plan, BASELINE, choice.chosen(plan, ledger, BASELINE)[0])
    losses = [[choice.done(plan, ledger, BASELINE, rate, start, order)["report"]
               for order in plan.table] for start in plan.table]
    return {"losses": losses, **ours.two_way(losses)}


def larger(plan, ledger):
    """The check with four times the parameters: [name, parameters, rate, comparison]."""
    names = [BASELINE, *choice.largest(plan, ledger)]
    rows = {name: row(plan, ledger, name, larger=True, seeds=plan.check) for name in names}
    found = []
    for name in names:
        rate = rows[name]["rate"]
        run = choice.done(plan, ledger, name, rate, plan.check[0], plan.check[0], larger=True)
        entry = {"name": name, "parameters": run["parameters"], "rate": rate,
                 "losses": rows[name]["losses"]}
        if name != BASELINE and all(map(math.isfinite, entry["losses"])):
            entry |= ours.paired(entry["losses"], rows[BASELINE]["losses"], plan.level)
        found.append(entry)
    return found


def verdict(r):
    """In a word: what may be said of this difference."""
    if "holm" not in r:
        return "diverged"
    return ("better" if r["mean"] < 0 else "worse") if r["real"] else "cannot be told apart"


def table(record):
    """The ranking: one row per variant, the baseline where it stands."""
    head = ["variant", "parameters", "rate", "difference", "interval", "p, Holm", "verdict"]
    base = record["variants"][BASELINE]
    zero = [BASELINE, f"{base['parameters']:,}", f"{base['rate']:.2g}", "0", "", "", ""]
    rows, placed = [head], False
    for name in ranked(record):
        r = record["variants"][name]
        if r["mean"] > 0 and not placed:
            rows, placed = [*rows, zero], True
        rows.append([name, f"{r['parameters']:,}", f"{r['rate']:.2g}", f"{r['mean']:+.4f}",
                     f"{r['low']:+.4f} to {r['high']:+.4f}", shown(r["holm"]), verdict(r)])
    return rows if placed else [*rows, zero]


def markdown(record):
    """The report as Markdown."""
    lines = ["# Which parts of a small GPT matter?", ""]
    if not record["finished"]:
        lines += [f"**Not finished.** {len(record['waiting'])} variants still have runs to make.",
                  ""]
    if record["seeds"] < 2:
        return "\n".join([*lines, f"{record['runs']} runs so far; no variant can be compared "
                                  "yet.", ""])
    base = record["variants"][BASELINE]
    lines += [f"The baseline reaches {statistics.mean(base['losses']):.4f} nats a character "
              f"(standard deviation {statistics.stdev(base['losses']):.4f} over "
              f"{record['seeds']} seeds). Below: the difference to "
              f"it, seed by seed, its {100 * (1 - record['level']):.0f} % interval, and a p-value "
              f"corrected by Holm for {record['tests']} comparisons.", ""]
    rows = table(record)
    lines += ["| " + " | ".join(rows[0]) + " |", "| :-- |" + " --: |" * 5 + " :-- |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    for name, r in record["variants"].items():
        if r.get("diverged"):
            lines += ["", f"{name}: {r['diverged']} of {record['seeds']} runs diverged; "
                          "not tested."]
    lines += ["", f"Seeds needed to find a difference with power 0.8, at the median spread of a "
                  f"difference ({record['spread']:.4f} nats):", "",
              "| difference, nats | one comparison | among all |", "| --: | --: | --: |"]
    lines += [f"| {d} | {alone:,} | {among:,} |" for d, alone, among in record["needed"]]
    if record["table"]:
        parts = {name: math.sqrt(max(record["table"][name], 0)) for name in
                 ("start", "order", "rest")}
        lines += ["", "Standard deviation of the baseline's loss by cause: "
                  + ", ".join(f"{name} {value:.4f}" for name, value in parts.items()) + " nats."]
    for r in record["larger"]:
        if "mean" in r:
            lines += ["", f"With {r['parameters']:,} parameters, {r['name']}: {r['mean']:+.4f} "
                          f"({r['low']:+.4f} to {r['high']:+.4f})."]
    lines += ["", f"{record['runs']} runs, {record['cpu_minutes']:.0f} minutes of one thread, the "
                  f"longest {record['longest']:.0f} s. Machine: {record['stamps'][-1]['machine']}; "
                  f"code {record['stamps'][-1]['commit']}.", ""]
    return "\n".join(lines)


def show(record):
    """The ranking, on the terminal."""
    if record["seeds"] < 2:
        print(f"{record['runs']} runs so far; no variant can be compared yet")
        return
    print_table(table(record), f"nats a character less the baseline's, {record['seeds']} seeds")


def draw(record, path):
    """One point and interval per variant; what is real in colour."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(figsize=(7.2, 6.4))
    names = ranked(record) if record["seeds"] >= 2 else []
    forest(axes, record, names)
    real = sum(record["variants"][name]["real"] for name in names)
    axes.set_title(f"{real} of {len(names)} differences are real; {record['seeds']} seeds, "
                   f"{record['runs']} runs")
    save(fig, path)
