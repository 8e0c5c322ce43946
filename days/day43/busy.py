"""Day 43 · A busy machine: tokens a second while other programs want every core."""

import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median

HOG = "while True:\n pass"
TURNS = 4                         # of the three rivals, on each machine


@contextmanager
def hogs(n):
    """n programs that compute for ever, for the time of a `with`."""
    running = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(n)]
    try:
        time.sleep(0.3)                                       # until they have started
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def rate(engine, last, position, seconds, stubborn=False):
    """Tokens a second for some seconds. stubborn: never rest, whatever the team has lost."""
    engine.until, count = 0.0, 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        engine.truncate(position)
        engine.step(last)
        if stubborn:
            engine.until = 0.0
        count += 1
    engine.truncate(position)
    return count / (time.perf_counter() - start)


def rates(alone, team, last, position, seconds, load):
    """[machine, tokens/s by one thread, by a stubborn team, by the engine] quiet and busy.

    seconds: for each rival. They take turns; medians over the turns.
    """
    rows = []
    for name, n in (("quiet", 0), (f"{load} other programs", load)):
        with hogs(n):                       # in turns, since the memory's rate drifts
            found = [[rate(alone, last, position, seconds / TURNS),
                      rate(team, last, position, seconds / TURNS, stubborn=True),
                      rate(team, last, position, seconds / TURNS)] for _ in range(TURNS)]
        rows.append([name, *(median(column) for column in zip(*found))])
    return rows
