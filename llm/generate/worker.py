"""Day 64 · The worker: one thread owns the model, the scheduler and the blocks, and no other.

Other threads put requests and cancellations into its inbox and are told by messages. Between two
steps it empties the inbox, so that whoever comes joins the batch at the next token. It counts who
is inside and turns away whoever would make the queue too long, before any work is done.
Left out: several models, several processes, and priorities.
"""

import math
import queue
import threading
import time
from collections import deque

from llm.generate.metrics import Metrics
from llm.generate.paged import BlockPool
from llm.generate.read_rows import step_for
from llm.generate.scheduler import Scheduler


class Full(Exception):
    """No room in the queue; `seconds` says when to come again."""

    def __init__(self, inside, seconds):
        super().__init__(f"{inside} requests are here already; come again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The worker stops, or was stopped by a fault, and takes nobody in."""


class Worker:
    """Serves one model from a thread of its own.

    model: an Opened. most: requests in a batch; waiting: in the queue besides; memory: bytes for
    keys and values; rows: tokens a step at most; size: tokens in a block.
    `context` is the longest text that can be served: the model's, or what the memory has room for.
    Raises ValueError where the memory has no room for one block.
    """

    def __init__(self, model, most=16, waiting=64, memory=256 << 20, rows=64, size=16):
        arch = model.arch
        block = 2 * arch.L * arch.K * arch.D * 4 * size
        blocks = min(memory // block, most * -(-arch.T // size))
        if blocks < 1:
            raise ValueError(f"{memory:,} bytes for keys and values: {size} tokens take {block:,}")
        self.pool = BlockPool(arch, blocks, size)
        weights = model.rows()
        self.scheduler = Scheduler(arch, weights, self.pool, most, max(rows, most),
                                   model.tokenizer, decode=step_for(arch, weights, self.pool))
        self.context = min(arch.T, blocks * size)
        self.limit, self.metrics = most + waiting, Metrics()
        self.inbox, self.lock = queue.Queue(), threading.Lock()
        self.inside, self.ended = set(), deque(maxlen=16)
        self.closing, self.fault = False, None
        self.thread = threading.Thread(target=self.run, name="worker", daemon=True)

    def start(self):
        """Begin to serve."""
        self.thread.start()

    def submit(self, request):
        """Let a Served in, from any thread. Raises Full or Closed, and then it is not inside."""
        with self.lock:
            if self.closing or self.fault:
                raise Closed(self.fault or "the server is shutting down")
            if len(self.inside) >= self.limit:
                raise Full(len(self.inside), self.patience())
            self.inside.add(request)
        request.came, request.begun = time.perf_counter(), None
        self.inbox.put(("submit", request))

    def cancel(self, request):
        """Its client is gone: give its blocks back before the next step."""
        self.inbox.put(("cancel", request))

    def patience(self):
        """Whole seconds in which a place should become free: the time between two endings."""
        if len(self.ended) < 2:
            return 1
        return max(1, math.ceil((self.ended[-1] - self.ended[0]) / (len(self.ended) - 1)))

    def close(self, seconds=30.0):
        """Take nobody in, serve those who are inside for so long, then cancel them."""
        with self.lock:
            self.closing = True
        self.inbox.put(None)
        if self.thread.ident is None:
            return
        self.thread.join(seconds)
        with self.lock:
            left = list(self.inside)
        for request in left:
            self.cancel(request)
        self.inbox.put(None)
        self.thread.join(5.0)

    def busy(self):
        """Is somebody running or waiting?"""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def run(self):
        """The thread: empty the inbox, read one batch, tell those who got a token."""
        while not (self.closing and not self.busy() and self.inbox.empty()):
            try:
                self.receive()
                if self.busy():
                    self.step()
            except Exception as error:               # a fault of ours, not of one request
                self.give_up(error)
                return

    def receive(self):
        """All that is in the inbox; waits for something only while there is nothing to do."""
        wait = not self.busy() and not self.closing
        while True:
            try:
                message = self.inbox.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if message is None:
                continue
            what, request = message
            if what == "submit":
                self.let_in(request)
            elif self.scheduler.cancel(request):
                self.leave(request)

    def let_in(self, request):
        """Queue it; what can never be served ends at once."""
        try:
            self.scheduler.submit(request)
            self.metrics.add("prompt_tokens_total", len(request.prompt))
        except ValueError as error:
            request.reason, request.error = "error", str(error)
            self.leave(request)

    def step(self):
        """One batch."""
        for request in self.scheduler.step():
            self.metrics.add("generated_tokens_total", 1)
            if request.begun is None:
                request.begun = time.perf_counter()
                self.metrics.observe("first_token_seconds", request.begun - request.came)
            if request.reason:
                self.leave(request)
            else:
                request.tell(request.news())
        self.metrics.add("steps_total", 1)

    def leave(self, request):
        """It is done: count it, forget it, tell it."""
        now = time.perf_counter()
        with self.lock:
            self.inside.discard(request)
            self.ended.append(now)
        self.metrics.add("requests_total", 1, reason=request.reason)
        self.metrics.observe("request_seconds", now - request.came)
        request.tell(request.news())

    def give_up(self, error):
        """After a fault nothing here can be trusted: end all, and let nobody in."""
        with self.lock:
            self.fault = f"{type(error).__name__}: {error}"
            left, self.inside = list(self.inside), set()
        for request in left:
            request.reason, request.error = "error", self.fault
            request.tell(request.news())

    def gauges(self):
        """What is so at this moment, for the metrics."""
        return {"requests_running": len(self.scheduler.running),
                "requests_waiting": len(self.inside) - len(self.scheduler.running),
                "blocks_free": len(self.pool.free), "blocks_total": self.pool.blocks}
