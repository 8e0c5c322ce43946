"""Day 52 · A real model in the compiled engine: blocks stay blocks, from the file to the registers.

`engine` opens nothing and dequantises no matrix: rows of blocks are read from the mapped file,
put into the order of our heads, and moved into tiles (llm/weights/repack.py). The embedding stays
in the file; a token takes one row of it. Left out: several texts at once.
"""

import mmap

import numba
import numpy as np

from llm.generate.architecture import check_weights
from llm.generate.decode import check_ids
from llm.generate.engine import Engine
from llm.generate.read_prompt import CHUNK, Reader, can_read
from llm.kernels.llama import LAYOUTS
from llm.kernels.products import one_output
from llm.weights.blocks import dequantise
from llm.weights.cursor import GGUFError
from llm.weights.llama import block_rows, describe, names
from llm.weights.repack import CHOICE, UNCHANGED, repack


class Rows:
    """A table (V, C) whose rows are dequantised when they are asked for.

    table[i] is row i, (C,) float32; table[ids] with ids (n,) is (n, C). raw: (V, bytes) uint8 of
    blocks of one kind, mapped from the file. `nbytes` is 0, since nothing is held besides the file.
    head: the same table as a Packed matrix, if it holds the same numbers; then a single row is
    taken from there by compiled code. After a token the interpreter's memory has left the caches,
    so that a few lines of Python cost as much as a large matrix does.
    """

    nbytes = 0

    def __init__(self, raw, kind, head=None):
        self.raw, self.kind, self.head = raw, kind, head
        self.shape = (len(raw), raw.shape[1] // kind.bytes * kind.weights)
        self.layout = LAYOUTS[CHOICE[kind.name]] if head else None

    def __getitem__(self, ids):
        if self.head and np.ndim(ids) == 0:
            row = np.empty(self.shape[1], np.float32)
            one_output(self.head.data, self.layout.bits, self.layout.minima, ids, row)
            return row
        rows = dequantise(np.atleast_2d(self.raw[ids]), self.kind)
        return rows[0] if np.ndim(ids) == 0 else rows


def let_go(array):
    """Tell the system that a mapped file's pages are not needed now; they come back when read."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def packed_weights(model, path=None):
    """{name: Packed, Rows or float32 array} of a `Pretrained`, for the engine.

    path: see llm/kernels/cpu.py; None: the fastest of this processor; "plain": float activations.
    Raises GGUFError where arrays are missing or not finite, ValueError for an impossible path.
    """
    about, weights = describe(model.file), {}
    sources = names(model.file, about["L"])
    for name, theirs in sources.items():
        let_go(model.file.data)
        parts = block_rows(model.file, about, theirs)
        if name == "head" or name.endswith(".w") or name == "embed" and "head" not in sources:
            try:
                weights["head" if name == "embed" else name] = repack(parts, path)
            except ValueError as error:
                raise GGUFError(f"{model.file.path}: {name}: {error}") from None
        elif name != "embed":
            weights[name] = np.concatenate([dequantise(*part[::-1]).reshape(-1) for part in parts])
    kind, raw = block_rows(model.file, about, sources["embed"])[0]
    same = "head" not in sources and kind.name in UNCHANGED
    weights["embed"] = Rows(raw, kind, weights["head"] if same else None)
    let_go(model.file.data)
    return weights


class LlamaEngine(Engine):
    """Day 43's engine, which reads prompts by llm/generate/read_prompt.py where it can."""

    def __init__(self, arch, weights, **options):
        super().__init__(arch, weights, **options)
        self.reader = None
        if can_read(arch, self.weights, self.cache.T_max):
            self.reader = Reader(arch, self.weights, self.cache, self.plan.cos, self.plan.sin)

    def prefill(self, ids):
        """As Engine.prefill: ids (n,) -> logits (V,) after the last."""
        ids = check_ids(self.arch, ids)
        self.cache.check_room(len(ids))
        if self.reader is None or len(ids) == 1:
            return super().prefill(ids)
        numba.set_num_threads(self.threads)
        for first in range(0, len(ids), CHUNK):
            last = self.reader.read(ids[first:first + CHUNK])
        return self.reader.multiply("head", last)[0]


def engine(model, path=None, **options):
    """An Engine that runs a `Pretrained` with the weights as its file has them.

    options: T_max, threads and dtype of the Engine. The cache takes 2·L·K·T_max·D float32 or
    float16, as it fills: without T_max it has room for the model's whole context.
    """
    weights = packed_weights(model, path)
    try:
        check_weights(model.arch, weights)
    except ValueError as error:
        raise GGUFError(f"{model.file.path} contradicts itself: {error}") from None
    return LlamaEngine(model.arch, weights, **options)
