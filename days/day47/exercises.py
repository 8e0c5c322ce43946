"""Day 47 · Exercises to build; `python -m days check 47` grades them."""

import numpy as np

from llm.generate import batch
from llm.generate.architecture import Architecture, shapes
from llm.generate.batch import paged_decode
from llm.generate.paged import BlockPool, OutOfBlocks
from llm.generate.request import Request
from llm.generate.scheduler import Scheduler


def answers(arch, weights, pool, prompt, n, choosers):
    """Several answers of n ids to one prompt, which is read once: a list of ids for each chooser.

    choosers: functions (logits, so_far) -> id, one an answer; so_far: the prompt and what this
    answer has so far. All answers go on in the same step; the last ids are chosen and not read.
    They share the prompt's blocks, the one that is only partly filled too, until they write.
    Afterwards all blocks are free again.
    """
    raise NotImplementedError


def swap_out(pool, table):
    """Take a text out of the pool and keep its keys and values elsewhere -> a function `back`.

    The table is empty afterwards and its blocks are given back. `back(table)`, with an empty table,
    puts the text into any free blocks, or raises OutOfBlocks with nothing changed. This is the
    other way to make room: nothing is computed again, but every number is copied twice.
    """
    raise NotImplementedError


def model(rng):
    arch = Architecture(V=9, T=24, C=8, L=2, H=4, K=2, D=4, F=12, rotary=100.0)
    return arch, {name: name.endswith("gain") + 0.5 * rng.standard_normal(shape)
                  for name, shape in shapes(arch)[0].items()}


def request(seed, prompt, n):
    """A request with its chooser ready."""
    made = Request(prompt, n, seed)
    made.start(None)
    return made


class counted:
    """`with counted() as read:` … `read` lists how many tokens each step read."""

    def __enter__(self):
        self.read, self.before = [], batch.check_rows

        def check_rows(arch, ids, *rest):
            self.read.append(len(ids))
            return self.before(arch, ids, *rest)

        batch.check_rows = check_rows
        return self.read

    def __exit__(self, *_):
        batch.check_rows = self.before


def check_answers(f):
    """Each as if it were alone; the prompt read once; no more blocks than needed; none lost."""
    rng = np.random.default_rng(0)
    arch, weights = model(rng)
    for prompt, n, count, blocks in (([1, 2, 3, 4, 5, 6, 7], 5, 4, 1 + 4 * 2),
                                     ([3], 7, 3, 3 * 2), ([1, 2, 3, 4], 1, 5, 1),
                                     ([5, 4, 3, 2, 1, 0, 1, 2], 4, 2, 2 + 2)):
        expected = []
        for seed in range(count):
            alone = Request(prompt, n, seed)
            scheduler = Scheduler(arch, weights, BlockPool(arch, 9, 4, dtype=np.float64),
                                  attention=batch.gathered)
            scheduler.submit(alone)
            scheduler.run()
            expected.append(alone.ids)
        pool = BlockPool(arch, blocks, 4, dtype=np.float64)
        with counted() as read:
            found = f(arch, weights, pool, prompt, n,
                      [request(seed, prompt, n).choose for seed in range(count)])
        assert [list(ids) for ids in found] == expected, f"{found}, wanted {expected}"
        wanted = len(prompt) + count * (n - 1)
        assert sum(read) == wanted, f"{sum(read)} tokens were read; {wanted} are enough"
        assert len(read) <= len(prompt) + n - 1, "the answers must go on in the same step"
        assert not any(pool.holders), f"blocks are still held: {pool.holders}"


def check_swap_out(f):
    """Out and in again, a text goes on to the last bit as it would have; others keep theirs."""
    rng = np.random.default_rng(1)
    arch, weights = model(rng)
    pool, table = BlockPool(arch, 6, 4, dtype=np.float64), []

    def read(ids, first):
        pool.grow(table, first + len(ids))
        where = np.arange(first, first + len(ids))
        return paged_decode(arch, weights, ids, where, np.array([table] * len(ids)), pool)

    ids = rng.integers(9, size=11)
    expected = np.concatenate([read(ids[:9], 0), read(ids[9:], 9)])
    pool.release(table)
    first = read(ids[:9], 0)
    other = pool.fork(table[:1])                        # somebody else has the first block too
    back = f(pool, table)
    assert table == [] and sum(map(bool, pool.holders)) == 1 and pool.holders[other[0]] == 1
    pool.k[:, list(pool.free)], pool.v[:, list(pool.free)] = np.nan, np.nan
    taken = [pool.take() for _ in range(2)]
    rest = pool.take()
    try:
        back(table)
    except OutOfBlocks:
        assert table == []
    else:
        raise AssertionError("there was no room, and nobody was told")
    pool.release([rest])
    back(table)
    assert len(table) == 3 and not set(table) & set(taken)
    assert (np.concatenate([first, read(ids[9:], 9)]) == expected).all()
    pool.release(table)
    pool.release(taken)
    pool.release(other)
    assert not any(pool.holders)
