"""Day 38 · Pace: as many threads as pay at this moment, found by the clock.

Two threads that meet after every kernel go at the pace of the later one. On a quiet machine that
can be nearly twice as fast as one thread. Where another program has the second core, the first
thread waits at every meeting until the system lets the second run again, some milliseconds each
time, and a step with a hundred meetings takes ten times as long as on one thread.

Nobody tells a program how many cores are free, so `Pace` measures: it times pieces of work of one
size, begins with one thread, tries more, keeps what was faster, and looks again when the work has
become slower or much faster, or some time has passed. A try that fails is paid for: the next comes
when its cost is a twenty-fifth of the time worked since. And where one thread does not get a whole
core, none is free, and more are rarely tried. Our kernels compute the same bits on any number. A
product of the BLAS need not (experiments/blas_threads.py): for equal runs, give it one thread
before `fast()`. Left out: several processes of ours; each would take the others for strangers.
"""

import contextlib
import functools
import math
import time
from contextvars import ContextVar

from llm.kernels.threads import allow, cores, kept, watched
from llm.tensors.roofline import Blas

BETTER = 0.95        # more threads must take less than this share of the time
SLOWER = 1.25        # so much slower than usual is a reason to try fewer
MUCH_FASTER = 1.5    # so much faster is a reason to try more at once
WHOLE = 0.8          # a thread that gets less than this of a core: none is free, so try more …
RARELY = 30.0        # … only after so many more seconds; large pieces may gain even then
LATE, TOO_LATE = 1.5, 2.0      # so much longer than usual, when tried and otherwise: give up
PRICE = 25           # after a failed try, work so many times as long as it cost …
PATIENCE = 1.0       # … and at least so many seconds, before the next
_limits = ContextVar("(threads of Numba, of the BLAS) at most", default=None)
_paces = {}          # (kind of work, counts) -> Pace: what was learned outlives a `fast()` block


class Pace:
    """The number of threads for one kind of work. Times are in seconds."""

    def __init__(self, counts):
        self.counts = counts           # numbers of threads to choose from, ascending from 1
        self.at = 0                    # counts[at] is the number in use
        self.trial = None              # counts[trial] is being tried; None: no trial runs
        self.times = None              # of the pieces since a change; None: the next one warms up
        self.usual = None              # what a piece takes with counts[at]
        self.got = 0.0                 # processor time of our thread in `times`
        self.alone = True              # False: even one thread did not have a core to itself
        self.cost = 0.0                # what the trial's pieces took beyond `usual`
        self.worked = 0.0              # of all pieces together: the clock of the two times below
        self.next_try = 0.0            # when more threads may be tried again
        self.next_doubt = 0.0          # when fewer threads may be tried again

    def threads(self):
        """How many the next piece should use."""
        return self.counts[self.at if self.trial is None else self.trial]

    def limit(self):
        """Seconds after which that piece should give up its threads; infinity for one thread."""
        if self.threads() == 1 or self.usual is None:
            return math.inf
        return self.usual * (TOO_LATE if self.trial is None else LATE)

    def note(self, took, got, gave_up=False):
        """A piece took so long, and the calling thread got so much processor time of it.

        gave_up: it went over its limit and ended on one thread.
        """
        self.worked += took
        if self.trial is not None:
            self.cost += took - self.usual
        if self.times is None:         # the first after a change only warms up
            self.times, self.got = [], 0.0
            if not gave_up:
                return
        self.times.append(took)
        self.got += got
        mean = sum(self.times) / len(self.times)
        if self.trial is not None:
            if gave_up or self.trial > self.at and mean > LATE * self.usual:
                self.decide(False, mean)
            elif enough(self.times):
                self.decide(mean < self.usual * (BETTER if self.trial > self.at else 1), mean)
        elif gave_up:
            self.next_try = self.worked + max(PATIENCE, PRICE * (took - self.usual))
            self.at, self.usual, self.times = self.at - 1, None, []
        elif enough(self.times) and (self.usual is None or len(self.times) >= 8
                                     or sum(self.times) > 1):
            self.judge(mean)
        due = self.next_try + (0 if self.alone else RARELY)
        if self.trial is None and self.usual and self.worked >= due and (
                self.at + 1 < len(self.counts)):
            self.begin(self.at + 1)

    def judge(self, mean):
        """Is the work as fast as usual? If not, perhaps fewer threads are better now."""
        worse = self.usual is not None and mean > SLOWER * self.usual
        if self.usual is not None and mean * MUCH_FASTER < self.usual:
            self.next_try = self.worked            # someone has left: is a core free?
        self.alone = self.at > 0 or self.got > WHOLE * sum(self.times)
        self.times, self.got = [], 0.0
        if worse and self.at > 0 and self.worked >= self.next_doubt:
            self.usual = mean
            self.begin(self.at - 1)
        elif self.at == 0 or self.usual is None:
            self.usual = mean
        else:                          # slow decay must add up until it is noticed
            self.usual = min(self.usual, mean)

    def begin(self, trial):
        """Try counts[trial] with the next pieces."""
        self.trial, self.times, self.cost = trial, None, 0.0

    def decide(self, won, mean):
        """End the trial, whose pieces took `mean` each; won: its number of threads stays."""
        wait = self.worked + max(PATIENCE, PRICE * self.cost)
        up = self.trial > self.at
        if won:
            self.at, self.usual = self.trial, mean
        if not (won and up):
            self.next_try = wait
        if not won and not up:
            self.next_doubt = wait
        self.trial, self.times = None, None


def enough(times):
    """Are these pieces enough for a verdict? Three, more if they are short, one if it is long."""
    return sum(times) > (0.03 if len(times) >= 3 else 0.3)


@contextlib.contextmanager
def following():
    """For `fast()`: yields the twin of `loop.paced`; afterwards all threads are as before.

    What was set when the block began is the most that is used: Numba's number and that of the
    BLAS, and never more than the cores that this process may use.
    """
    blas = library()
    with kept() as threads:
        before, token = blas.threads(), None
        if _limits.get() is None:
            most = cores()
            token = _limits.set((min(threads, most), min(max(before, 1), most)))
            give(_limits.get()[0])
        try:
            yield paced
        finally:
            if token is not None:
                _limits.reset(token)
                if before:
                    blas.set_threads(before)


library = functools.cache(Blas)


def give(n):
    """Let both pools use n threads, within their limits."""
    for_numba, for_blas = _limits.get()
    allow(min(n, for_numba))
    if library().threads():
        library().set_threads(min(n, for_blas))


def paced(kind, work, *arguments):
    """work(*arguments), timed, on as many threads as pays for this kind of work."""
    pace = pace_of(kind)
    gave_up = False

    def give_up():
        nonlocal gave_up
        if not gave_up:
            gave_up = True
            give(1)

    give(pace.threads())
    began, used = time.perf_counter(), time.thread_time()
    with watched(began + pace.limit(), give_up):
        result = work(*arguments)
    pace.note(time.perf_counter() - began, time.thread_time() - used, gave_up)
    return result


def pace_of(kind):
    """What is known of this kind of work under these limits."""
    most = max(_limits.get())
    if len(_paces) > 256:              # kinds that were met once, and are not met again
        _paces.clear()
    return _paces.setdefault((kind, most), Pace(counts_up_to(most)))


def counts_up_to(most):
    """1, 2, 4, … and the last one itself.

    >>> counts_up_to(6)
    [1, 2, 4, 6]
    """
    return [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
