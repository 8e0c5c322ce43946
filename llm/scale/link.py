"""Day 61 · A simulated link: what a message costs, counted and timed.

The model has two numbers: a message of n bytes takes α + n/β seconds, with the latency α in
seconds and the bandwidth β in bytes a second. A rank can send and receive at the same time, but
sends one message after the other and receives one after the other.

Metered wraps any Comm and runs the very same algorithms. Its clock is a virtual one, so a
thousand slow messages are timed in an instant; with sleep=True the ranks really wait, so that
hiding the wait behind other work can be measured. Left out: switches, and links that are shared.
Source: Hockney (1994), the linear model of a message's time.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from llm.scale.comm import Comm


@dataclass(frozen=True)
class Link:
    """latency α in seconds, bandwidth β in bytes a second."""

    latency: float
    bandwidth: float

    def __post_init__(self):
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(f"latency {self.latency} s must be at least 0 and bandwidth "
                             f"{self.bandwidth} bytes/s positive")

    def seconds(self, nbytes):
        """One message of so many bytes, from the first byte sent to the last received."""
        return self.latency + nbytes / self.bandwidth


class Metered(Comm):
    """A Comm whose messages are counted, and timed by `link` where one is given.

    messages, bytes: sent by this rank. now: seconds of its virtual clock, which starts at 0; with
    sleep=True of the machine's, which all ranks on it must share.
    """

    def __init__(self, comm, link=None, sleep=False):
        super().__init__(comm.rank, comm.size, comm.patience, comm.here)
        self.comm, self.link, self.sleep = comm, link, sleep
        self.messages = self.bytes = 0
        self.clock = self.out_free = self.in_free = 0.0

    @property
    def now(self):
        """Seconds of this rank's clock."""
        return time.perf_counter() if self.sleep else self.clock

    def work(self, seconds):
        """Let this rank be busy for so long."""
        if self.sleep:
            time.sleep(seconds)
        else:
            self.clock += seconds

    def put(self, array, to):
        self.messages, self.bytes = self.messages + 1, self.bytes + array.nbytes
        if self.link:                                  # the port is busy while the bytes go out
            leaves = max(self.now, self.out_free)
            self.out_free = leaves + array.nbytes / self.link.bandwidth
            self.comm.send(np.array(leaves), to)
        self.comm.send(array, to)

    def get(self, like, source):
        if not self.link:
            return self.comm.recv(like, source)
        leaves = float(self.comm.recv(np.array(0.0), source))
        array = self.comm.recv(like, source)
        there = max(leaves + self.link.seconds(array.nbytes),
                    self.in_free + array.nbytes / self.link.bandwidth)
        self.in_free = there
        if self.sleep:
            time.sleep(max(there - self.now, 0))
        self.clock = max(self.clock, there)
        return array

    def barrier(self):
        """Wait for all; the clocks stay as they are."""
        self.comm.barrier()


def ring_seconds(link, p, nbytes):
    """2(p−1) steps, each a message of 1/p of the bytes."""
    return 2 * (p - 1) * link.seconds(nbytes / p)


def tree_seconds(link, p, nbytes):
    """⌈log₂ p⌉ steps up and as many down, each with all bytes."""
    return 2 * math.ceil(math.log2(p)) * link.seconds(nbytes)


def root_seconds(link, p, nbytes):
    """All bytes of p−1 ranks through the one port of rank 0, in and then out."""
    if p == 1:
        return 0.0
    return 2 * (link.latency + (p - 1) * nbytes / link.bandwidth)


def overlapped(ready, seconds):
    """When the last of several transfers ends: each waits for its data and for the one before.

    ready: when each one's data is there, in the order of sending. seconds: how long each takes.

    >>> overlapped([1.0, 2.0, 3.0], [0.5, 2.0, 0.5])
    4.5
    """
    end = 0.0
    for there, takes in zip(ready, seconds, strict=True):
        end = max(end, there) + takes
    return end
