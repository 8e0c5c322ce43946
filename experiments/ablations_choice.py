"""Day 63 · What a study has to run next, computed from what it has run.

Every function here reads the plan and the ledger and changes neither. So a stopped study needs no
notes of where it was, and the order of the runs cannot depend on the clock.
"""

import math
import statistics

from days.day63.ledger import key
from days.day63.variants import BASELINE, FIRST_RATE

FACTOR, WIDEST = 1.5, 14        # between neighbours; at most so many steps from the first rate
RESIZED = ("shape", "heads", "tokenizer")     # families that stage 5 cannot enlarge
WAVE = 6                        # variants that go through stages 1 to 3 together


def rate_at(plan, name, step):
    """The rate so many steps of the grid above the variant's first one, to four digits."""
    rate = FIRST_RATE * plan.variants()[name].where * FACTOR ** step
    return float(f"{rate:.4g}")


def done(plan, ledger, *run, **more):
    """The entry of a run, or None."""
    return ledger.runs.get(key(plan.task(*run, **more)))


def scores(plan, ledger, name, seeds, larger=False):
    """{step: mean loss on the choosing half} of the rates that have all these seeds."""
    found = {}
    for step in range(-WIDEST, WIDEST + 1):
        rate = rate_at(plan, name, step)
        runs = [done(plan, ledger, name, rate, s, s, larger=larger) for s in seeds]
        if all(runs):
            found[step] = statistics.mean(run["choose"] for run in runs)
    return found


def settle(found, begin):
    """(best step, steps wanted): none are wanted where the best stands between two others.

    At the end of what is allowed, ±WIDEST, a best step may stand at the edge.
    """
    if wanted := [step for step in begin if step not in found]:
        return None, wanted
    best = min(found, key=found.get)
    return best, [step for step in within(best - 1, best + 1) if step not in found]


def within(*steps):
    """Those steps of the grid that are allowed."""
    return [step for step in steps if abs(step) <= WIDEST]


def chosen(plan, ledger, name, larger=False):
    """(best step or None, seeds and steps wanted next) after both stages of choosing."""
    first = plan.choose[:1]
    begin = (-1, 0, 1)
    if larger:                                     # begin at what was best when it was small
        middle = chosen(plan, ledger, name)[0]
        begin = within(middle - 1, middle, middle + 1)
    best, wanted = settle(scores(plan, ledger, name, first, larger), begin)
    if wanted or larger:
        return (None if wanted else best), [(first, step) for step in wanted]
    near = within(best - 1, best, best + 1)
    best, wanted = settle(scores(plan, ledger, name, plan.choose), near)
    return (None if wanted else best), [(plan.choose, step) for step in wanted]


def missing(plan, ledger):
    """The tasks of the first stage that is not finished; [] at the end.

    Variants go through stages 1 to 3 in waves, so that a stopped study has finished some.
    """
    names = list(plan.variants())
    for i in range(0, len(names), WAVE):
        wave = names[i:i + WAVE]
        if tasks := grid(plan, ledger, wave) or reports(plan, ledger, wave, plan.report):
            return tasks
    return table(plan, ledger) or larger(plan, ledger)


def grid(plan, ledger, names, larger=False):
    """Stages 1 and 2: rates and seeds wanted, the cheaper stage of each variant first."""
    tasks = []
    for name in names:
        for seeds, step in chosen(plan, ledger, name, larger)[1]:
            rate = rate_at(plan, name, step)
            tasks += [plan.task(name, rate, s, s, larger=larger) for s in seeds
                      if not done(plan, ledger, name, rate, s, s, larger=larger)]
    return tasks


def reports(plan, ledger, names, seeds, larger=False):
    """Stage 3, or the end of stage 5: seed by seed, so that a stopped study is balanced."""
    rates = {name: rate_at(plan, name, chosen(plan, ledger, name, larger)[0]) for name in names}
    return [plan.task(name, rates[name], s, s, larger=larger) for s in seeds for name in names
            if not done(plan, ledger, name, rates[name], s, s, larger=larger)]


def table(plan, ledger):
    """Stage 4: every pair of a start and an order, for the baseline."""
    rate = rate_at(plan, BASELINE, chosen(plan, ledger, BASELINE)[0])
    return [plan.task(BASELINE, rate, start, order) for start in plan.table
            for order in plan.table if not done(plan, ledger, BASELINE, rate, start, order)]


def larger(plan, ledger):
    """Stage 5: choose and report again, for the largest effects on the choosing half."""
    names = [BASELINE, *largest(plan, ledger)]
    return (grid(plan, ledger, names, larger=True)
            or reports(plan, ledger, names, plan.check, larger=True))


def largest(plan, ledger):
    """The variants furthest from the baseline, either way, that keep its size and its text.

    Judged on the half and the seeds for choosing, so that what is checked does not choose itself.
    """
    loss = {name: min(scores(plan, ledger, name, plan.choose).values(), default=math.nan)
            for name in plan.variants()}
    able = [name for name, v in plan.variants().items()
            if name != BASELINE and not v.shift and v.family not in RESIZED]
    able.sort(key=lambda name: -abs(loss[name] - loss[BASELINE]))
    return able[:plan.effects]


def expected(plan):
    """About how many runs there will be."""
    each = 5 + 3 * (len(plan.choose) - 1) + len(plan.report)
    return (each * len(plan.variants()) + len(plan.table) ** 2 - len(plan.table)
            + (plan.effects + 1) * (3 + len(plan.check)))
