"""Day 36 · Exercises to build; `python -m days check 36` grades them."""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from llm.train.checkpoint import Progress, load_checkpoint, save_checkpoint


def resumable_windows(ids, B, T, rng):
    """An iterator over epochs that a checkpoint can hold.

    ids: (N,) integers. In every epoch each window starting at 0, T, 2T, … that fits with its last
    target (start + T < N) comes exactly once, in an order drawn by `rng` when the epoch begins.
    next() gives (inputs, targets), (B, T) int32 arrays; the windows that are left over at the end
    of an epoch, fewer than B, are dropped. Return an object with __next__, state_dict() and
    load_state_dict(state), so that it can be a part of a checkpoint beside "rng": after both have
    been restored it goes on with the same batches, in the middle of an epoch too. Example::

        parts = {"rng": rng, "batches": resumable_windows(ids, 8, 64, rng)}
    """
    raise NotImplementedError


def average_checkpoints(paths, part):
    """The mean of one part's arrays over several checkpoints: {name without prefix: array}.

    The sum is in float64, and the mean has the type of the first file. One array of all files at
    a time is in memory, never a whole file beside another. ValueError where the names or shapes
    of two files differ, or no path is given. Example::

        model.load_state_dict(average_checkpoints(checkpoints.paths(), "model"))
    """
    raise NotImplementedError


class Numbers:
    def __init__(self, arrays):
        self.arrays = arrays

    def state_dict(self):
        return self.arrays

    def load_state_dict(self, state):
        for name, a in self.arrays.items():
            a[...] = state[name]


def check_resumable_windows(f):
    """Every window once an epoch, in new orders; stopped anywhere, it goes on as if it had not."""
    for n, B, T in ((41, 3, 4), (40, 2, 4), (9, 1, 2), (50, 4, 7)):
        ids = np.arange(100, 100 + n)
        starts = list(range(0, n - T, T))
        epoch = len(starts) // B
        rng = np.random.default_rng(0)
        batches, orders = f(ids, B, T, rng), set()
        for _ in range(8):
            seen = []
            for _ in range(epoch):
                inputs, targets = next(batches)
                assert inputs.shape == targets.shape == (B, T) and inputs.dtype == np.int32
                assert np.array_equal(targets, inputs + 1), "targets are the next tokens"
                seen += (inputs[:, 0] - 100).tolist()
            assert len(set(seen)) == epoch * B and set(seen) <= set(starts), (
                f"an epoch of {n} tokens began at {sorted(seen)}")
            orders.add(tuple(seen))
        assert len(orders) > 1, "the order must be drawn anew in each epoch"
        for stop in range(2 * epoch + 2):
            rng = np.random.default_rng(1)
            batches = f(ids, B, T, rng)
            for _ in range(stop):
                next(batches)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "a"
                save_checkpoint(path, {"rng": rng, "batches": batches}, Progress(stop))
                wanted = [next(batches)[0] for _ in range(2 * epoch)]
                rng = np.random.default_rng(7)
                again = f(ids, B, T, rng)
                for _ in range(3):
                    next(again)                                   # it may have been in use
                load_checkpoint(path, {"rng": rng, "batches": again})
            assert all(np.array_equal(next(again)[0], w) for w in wanted), (
                f"stopped after {stop} batches of {epoch} an epoch, it went on with others")


def check_average_checkpoints(f):
    """The mean by hand, in the right type and without a sum that overflows; memory; errors."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(i) for i in range(3)]
        for i, path in enumerate(paths):
            arrays = {"w": np.full((2, 3), 3e38 + 1e37 * i, np.float32), "b": np.float64([i, 1])}
            save_checkpoint(path, {"model": Numbers(arrays), "optimizer": Numbers(arrays)},
                            Progress(i))
        found = f(paths, "model")
        assert found.keys() == {"w", "b"}, f"the names are {sorted(found)}"
        assert found["w"].dtype == np.float32 and found["b"].dtype == np.float64
        assert np.allclose(found["w"], 3.1e38), "the sum must not overflow: take float64"
        assert found["b"].tolist() == [1, 1]
        large = {str(i): np.zeros(200_000, np.float32) for i in range(20)}
        save_checkpoint(paths[0], {"model": Numbers(large)}, Progress())
        save_checkpoint(paths[1], {"model": Numbers(large)}, Progress())
        tracemalloc.start()
        f(paths[:2], "model")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24e6, f"{peak / 1e6:.0f} MB at once: the result has 16, one sum 1.6"
        large["0"] = np.zeros((2, 100_000), np.float32)
        save_checkpoint(paths[2], {"model": Numbers(large)}, Progress())
        for wrong in (paths[1:3], []):
            try:
                f(wrong, "model")
            except ValueError:
                continue
            raise AssertionError("shapes that differ, or no path: ValueError")
