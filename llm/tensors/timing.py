"""Day 02 · Timing: the median of several runs, the rivals taken in turns.

A machine's speed drifts (other programs, heat), so the rivals run A B C, A B C, …: a slow second
then hits all of them, and their ratio survives. The median ignores the one run that was disturbed.
Left out: confidence intervals, and the mean, which one bad run would spoil.
"""

import time
from statistics import median


def seconds_each(functions, repeats=7, at_least=0.002, slow=0.5, warm=True, step=lambda: None):
    """Median seconds of one call of each function in the dict, under the same key.

    `warm` calls each once untimed, since a first call may compile. Calls shorter than `at_least`
    seconds are timed in batches, or they would drown in the clock's own cost. What takes over
    `slow` seconds is timed once only. `step()` is called after each round (for a progress bar).
    Raises ValueError for fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}")
    batch, times = {}, {}
    for key, function in functions.items():
        if warm:
            function()
        first = _seconds(function, 1)
        batch[key] = 1 + int(at_least / max(first, 1e-9))
        times[key] = [first] if first > slow else []
    for _ in range(repeats):
        for key, function in functions.items():
            if not times[key] or times[key][0] <= slow:
                times[key].append(_seconds(function, batch[key]))
        step()
    return {key: median(values) for key, values in times.items()}


def _seconds(function, calls):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
