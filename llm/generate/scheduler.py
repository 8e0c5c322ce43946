"""Day 47 · Continuous batching: before every step it is decided anew who takes part.

Requests come, wait in a queue, run together and leave, each when it is done. All are served in the
order of their arrival: a younger one may never take a block from an older one, so the oldest always
goes on, and every request ends. When blocks run out the youngest is sent back to the queue; later
it reads its text again. Left out: priorities, several models, and a network in front.
"""

from collections import deque

import numpy as np

from llm.generate.architecture import check_weights
from llm.generate.batch import paged_decode
from llm.generate.decode import check_ids
from llm.generate.paged import OutOfBlocks
from llm.kernels.paged import attend


class Scheduler:
    """Serves requests with one model and one BlockPool, at most `most` at once.

    weights: as for `paged_decode`; rows: tokens a step at most, for which long prompts are read in
    pieces; at least `most`, so that nobody has to pause. static: fill all places, then let nobody
    in until all are done, as servers did before Orca. attention: see `paged_decode`. decode: that
    function, or a twin that takes and gives the same.
    Raises ValueError where these do not fit. Source: Yu et al. (2022), section 4.
    """

    def __init__(self, arch, weights, pool, most=16, rows=64, tokenizer=None, static=False,
                 attention=attend, decode=paged_decode):
        check_weights(arch, weights)
        if not 1 <= most <= rows:
            raise ValueError(f"{most} requests at once and {rows} rows a step: each that runs "
                             "needs a row, so 1 ≤ most ≤ rows")
        if pool.arch != arch:
            raise ValueError("this pool was made for another architecture")
        self.arch, self.weights, self.pool, self.attention = arch, weights, pool, attention
        self.most, self.rows, self.tokenizer, self.static = most, rows, tokenizer, static
        self.decode = decode
        self.running, self.waiting = [], deque()     # both by arrival; all who run came earlier

    def submit(self, request):
        """Put a request into the queue. ValueError, and nothing changed, if it can never be served.

        That is so for no ids or wrong ones, n < 1, more tokens than the model's context or the
        whole pool has room for, and a request that has been submitted before.
        """
        if request.reason or request in self.running or request in self.waiting:
            raise ValueError("this request was submitted before: make a new one for each answer")
        check_ids(self.arch, request.prompt)
        tokens, pool = request.longest, self.pool
        if request.n < 1:
            raise ValueError(f"cannot write {request.n} tokens: n must be at least 1")
        if tokens > min(self.arch.T, pool.blocks * pool.size):
            raise ValueError(f"a prompt of {len(request.prompt)} and {request.n} tokens to write "
                             f"need room for {tokens}: the model has {self.arch.T} and the pool "
                             f"{pool.blocks * pool.size}; ask for less or make the pool larger")
        if request.stop and not self.tokenizer:
            raise ValueError("stop strings need a tokenizer: give one to the Scheduler")
        request.start(self.tokenizer)
        self.waiting.append(request)

    def cancel(self, request):
        """Stop serving it, at once; False if it was already done."""
        for place in (self.running, self.waiting):
            if request in place:
                place.remove(request)
                self.pool.release(request.table)
                request.reason = "cancelled"
                return True
        return False

    def step(self):
        """Read one batch -> the requests that got a token, in the order of their arrival."""
        plan = self.plan()
        if not plan:
            return []
        ids, positions, tables, wanted, done = [], [], [], [], []
        for request, count in plan:
            end = request.read + count
            ids += request.known[request.read:end]
            positions += range(request.read, end)
            tables += [request.table] * count
            if end == len(request.known):
                wanted.append(len(ids) - 1)
        logits = iter(self.decode(self.arch, self.weights, np.array(ids), np.array(positions),
                                  padded(tables), self.pool, wanted, self.attention))
        for request, count in plan:
            request.reread += max(0, min(count, request.most_read - request.read))
            request.read += count
            request.most_read = max(request.most_read, request.read)
            self.pool.remember(request.table, request.known[:request.read])
            if request.read == len(request.known):
                request.add(next(logits))
                done.append(request)
                if request.reason:
                    self.running.remove(request)
                    self.pool.release(request.table)
        return done

    def plan(self):
        """Who reads how many tokens in this step: [(request, count)], every count at least 1."""
        plan, spare, full = [], self.rows - len(self.running), False
        closed = self.static and bool(self.running)
        for request in self.running[:]:
            if request in self.running and self.make_room(request):
                count = 1 + min(len(request.known) - request.read - 1, spare)
                spare -= count - 1
                plan.append((request, count))
            else:
                full = True                          # somebody was sent back: let nobody in
        while not (full or closed) and self.waiting and (spare or self.static) and self.admit():
            request = self.running[-1]
            if count := min(len(request.known) - request.read, spare):
                spare -= count
                plan.append((request, count))
        return plan

    def make_room(self, request):
        """Get blocks for all known tokens; while there are none, the youngest request is sent back.

        False if the one sent back is this request itself.
        """
        while True:
            try:
                self.pool.grow(request.table, len(request.known))
                return True
            except OutOfBlocks:
                victim = self.running.pop()
                self.pool.release(victim.table)
                self.waiting.appendleft(victim)
                if victim is request:
                    return False

    def admit(self):
        """Let the first of the queue in; False, and nothing changed, if there is no place for it.

        There must be blocks for all its tokens so far, and one more for each that runs and may
        still need one: else it would be sent back at once.
        """
        request, pool = self.waiting[0], self.pool
        found = pool.find(request.known[:-1])        # one token must be read, to have its logits
        unheld = sum(not pool.holders[block] for block in found)
        needed = pool.count(len(request.known)) - len(found) + unheld
        needed += sum(pool.count(r.longest) > len(r.table) for r in self.running)
        if len(self.running) == self.most or needed > len(pool.free):
            return False
        self.running.append(self.waiting.popleft())
        request.table = pool.fork(found)
        pool.grow(request.table, len(request.known))
        request.read = len(found) * pool.size
        request.reused += request.read
        return True

    def run(self):
        """Step until nobody is left."""
        while self.running or self.waiting:
            self.step()


def padded(tables):
    """Lists of blocks as one array (N, M) int64, filled up with 0."""
    out = np.zeros((len(tables), max(map(len, tables))), np.int64)
    for row, table in zip(out, tables):
        row[:len(table)] = table
    return out
