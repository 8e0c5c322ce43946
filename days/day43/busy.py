"""Day 43 · A busy machine: tokens a second while other programs want every core."""

import subprocess
import sys
import time
from contextlib import contextmanager

HOG = "while True:\n pass"


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
    """[machine, tokens/s by one thread, by a stubborn team, by the engine] quiet and busy."""
    rows = []
    for name, n in (("quiet", 0), (f"{load} other programs", load)):
        with hogs(n):
            rows.append([name, rate(alone, last, position, seconds),
                         rate(team, last, position, seconds, stubborn=True),
                         rate(team, last, position, seconds)])
    return rows
