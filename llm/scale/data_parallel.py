"""Day 61 · Data parallelism: every rank has the whole model and a part of each batch.

    step = DataParallel(comm, parameters, loss)
    fit(parameters, step, shards(batches, comm), optimizer, schedule, steps=2000)

fit runs on every rank and knows nothing of the others. When it calls backward, the gradients are
summed over all ranks before it returns, so that clipping, the test for NaN and the optimizer see,
bit for bit, the same numbers everywhere. Left out: limits by the clock (ranks would not stop at
the same step: give `steps`), and parameters that no rank's batch reaches, which get a gradient of
zeros. Source: Li and others (2020), section 3.2 (buckets, overlap).
"""

import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from llm.grad import walk
from llm.grad.lowering import lower
from llm.scale.allreduce import broadcast, chunks, ring_allreduce, tree_allreduce


def shards(batches, comm):
    """This rank's rows of each batch, a tuple of arrays (B, …) that every rank draws alike.

    All ranks draw the whole batch from the same seed, so one generator's state in a checkpoint
    serves any number of ranks. Raises ValueError for a batch with fewer rows than ranks.
    """
    for batch in batches:
        rows = len(batch[0])
        if rows < comm.size:
            raise ValueError(f"a batch of {rows} rows for {comm.size} ranks: each needs one")
        mine = chunks(rows, comm.size)[comm.rank]
        yield tuple(array[mine] for array in batch)


class DataParallel:
    """A loss for `fit` whose value, count and gradients are those of all ranks' batches together.

    parameters: {name: Tensor}, the same on each rank. loss(batch) -> (Tensor, count): the mean
    over this rank's `count` targets, which may differ from rank to rank. accumulate: as in fit.
    Gradients travel in buckets of at least `bucket` bytes, the last parameters first; None sends
    all in one. overlap: a thread sends each bucket as soon as it is complete, while backward goes
    on. reduce(comm, array): how. Raises ValueError where `accumulate` is not fit's, RankLost where
    a rank has failed.
    """

    def __init__(self, comm, parameters, loss, accumulate=1, bucket=None, overlap=False,
                 reduce=ring_allreduce):
        self.comm, self.parameters, self.loss, self.reduce = comm, parameters, loss, reduce
        self.accumulate, self.overlap, self.batches = accumulate, overlap, 0
        self.reached = False                           # has this step given gradients here?
        self.buckets = in_buckets(list(parameters.values())[::-1], bucket)

    def __call__(self, batch):
        """(value with .data and .backward(), count), both over all ranks."""
        if self.batches % self.accumulate == 0:
            self.reached = False                       # a step begins: fit has cleared all
        if self.reached == all(p.grad is None for p in self.parameters.values()):
            raise ValueError(f"accumulate={self.accumulate} here and another number in fit: the "
                             "gradients would be summed at the wrong batch")
        self.batches += 1
        value, count = self.loss(batch)
        self.reached = self.reached or count > 0
        both = np.array([float(value.data) * count if count else 0.0, count], np.float64)
        total, everyone = tree_allreduce(self.comm, both)
        mean = np.asarray(total / max(everyone, 1), value.data.dtype)
        return Share(self, value, mean, count / max(everyone, 1)), int(everyone)

    def backward(self, value, seed):
        """Gradients of this rank's share, and after the last batch of a step those of all."""
        if self.batches % self.accumulate:
            go_back(value, seed)
            return
        if not self.overlap or self.comm.size == 1:
            go_back(value, seed)
            for bucket in self.buckets:
                self.sum_over_ranks(bucket)
            return
        with ThreadPoolExecutor(1) as sender:
            watch = Watch(self.buckets, lambda bucket: sender.submit(self.sum_over_ranks, bucket))
            with lower({walk.keep: watch.keep}):
                go_back(value, seed)
            for sent in watch.finish():
                sent.result()                          # raises what the thread has raised

    def sum_over_ranks(self, bucket):
        """One message's worth of gradients: out of the parameters, summed, and back."""
        row = np.concatenate([(np.zeros_like(p.data) if p.grad is None else p.grad).reshape(-1)
                              for p in bucket])
        self.reduce(self.comm, row)
        ends = np.cumsum([p.data.size for p in bucket])
        for p, part in zip(bucket, np.split(row, ends[:-1])):
            p.grad = part.reshape(p.shape)


class Share:
    """What fit takes for the loss: the mean over all ranks, and a backward that is shared."""

    def __init__(self, owner, value, mean, weight):
        self.owner, self.value, self.data, self.weight = owner, value, mean, weight

    def backward(self, seed=None):
        """Σ over ranks of (count / all counts) · gradient of its mean = gradient of all's mean."""
        seed = np.ones_like(self.data) if seed is None else seed
        self.owner.backward(self.value if self.weight else None, seed * self.weight)


def go_back(value, seed):
    """value.backward(seed) in the value's own dtype; nothing where value is None."""
    if value is not None:                              # None: no target here, so no gradient
        value.backward(np.asarray(seed, value.data.dtype))


class Watch:
    """Takes walk.keep's place: sends bucket after bucket as their last gradients arrive."""

    def __init__(self, buckets, send):
        self.buckets, self.send, self.sent = buckets, send, []
        self.missing = [{id(p) for p in bucket} for bucket in buckets]
        self.home = {id(p): k for k, bucket in enumerate(buckets) for p in bucket}

    def keep(self, leaf, g, owned):
        walk.keep.__wrapped__(leaf, g, owned)
        if id(leaf) in self.home:
            self.missing[self.home[id(leaf)]].discard(id(leaf))
            while len(self.sent) < len(self.buckets) and not self.missing[len(self.sent)]:
                self.sent.append(self.send(self.buckets[len(self.sent)]))

    def finish(self):
        """Send what is left (a parameter may not have been reached); one Future a bucket."""
        return self.sent + [self.send(bucket) for bucket in self.buckets[len(self.sent):]]


def in_buckets(parameters, least):
    """Lists of neighbouring Tensors of one dtype, at least `least` bytes together but the last."""
    buckets, size = [], 0
    for p in parameters:
        full = least is not None and size >= least
        if not buckets or full or buckets[-1][-1].data.dtype != p.data.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(p)
        size += p.data.nbytes
    return buckets


def start_equal(comm, parameters):
    """Give every rank the parameters of rank 0."""
    for p in parameters.values():
        broadcast(comm, p.data)


def check_equal(comm, parameters):
    """Raise RuntimeError, on all ranks, if the parameters differ in any bit from rank 0's."""
    crc = 0
    for p in parameters.values():
        crc = zlib.crc32(np.ascontiguousarray(p.data).reshape(-1).view(np.uint8), crc)
    differs = np.zeros(comm.size, np.int64)
    differs[comm.rank] = broadcast(comm, np.array([crc])).item() != crc
    tree_allreduce(comm, differs)
    if differs.any():
        raise RuntimeError(f"the weights of rank {', '.join(map(str, np.flatnonzero(differs)))} "
                           "are not those of rank 0: were all ranks given the same start, and do "
                           "all see the summed gradient?")


def farewell(comm, what):
    """For fit's on_interrupt: say why this rank ends. mpirun sends SIGTERM when a rank has died.

    what() adds what the reader should do now, such as which checkpoint to go on from.
    """
    def say(signum):
        print(f"rank {comm.rank} of {comm.size}: told to end by signal {signum}. If nobody stopped "
              f"the run, another rank has died. {what()}", file=sys.stderr, flush=True)
    return say
