"""Day 47 · A step with B rows: its time beside the roofline; and whether company changes bits."""

import time
from dataclasses import replace

import numpy as np

from llm.generate.batch import pack_rows, paged_decode
from llm.generate.decode import count_flops
from llm.generate.engine import Engine
from llm.generate.paged import BlockPool
from llm.generate.request import Request
from llm.generate.scheduler import Scheduler
from llm.kernels.matvec import FLOAT32, pack_float32
from llm.kernels.paged import ROWS32, attend, multiply
from llm.tensors.roofline import read_all


def fastest(call, repeats):
    """Seconds of the fastest of several calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def machine_limits(rng, fast):
    """(bytes a second read from memory, FLOPs a second of our product when W is in the cache)."""
    memory = np.ones((1 << 24) if fast else (1 << 26), np.float32)
    w = pack_float32(rng.standard_normal((768, 3072), dtype=np.float32))
    x = rng.standard_normal((64, 768), dtype=np.float32)
    return (memory.nbytes / fastest(lambda: read_all(memory), 5),
            2 * x.size * 3072 / fastest(lambda: multiply(w, x, 3072), 9))


def step_seconds(arch, weights, sizes, position, repeats, tick):
    """{B: seconds of one step of B texts that have read `position` tokens each}."""
    packed, found = pack_rows(weights), {}
    for B in sizes:
        size = 16
        blocks = -(-(position + 1) // size)
        pool = BlockPool(arch, B * blocks, size)
        tables = np.arange(B * blocks).reshape(B, blocks)
        ids, where = np.arange(B) % arch.V, np.full(B, position)
        found[B] = fastest(lambda pool=pool, tables=tables, ids=ids, where=where: paged_decode(
            arch, packed, ids, where, tables, pool, attention=attend), repeats)
        tick(1)
    return found


def engine_seconds(arch, weights, position, repeats):
    """A token of day 43's compiled engine, one text."""
    engine = Engine(arch, weights, T_max=position + 2)
    for i in range(position):
        engine.step(i % arch.V)

    def token():
        engine.truncate(position)
        engine.step(0)

    return fastest(token, 4 * repeats)


def costs(arch, weights, B, position):
    """(FLOPs, bytes) of a step: the matrices once, the keys and values of every text."""
    matrices = sum(w.nbytes for name, w in weights.items()
                   if name.endswith(".w") or name in ("head", "embed"))
    cache = 4 * 2 * arch.L * arch.K * arch.D * (position + 1)
    return B * count_flops(arch, position, 1), matrices + B * cache


def rounded(format):
    """The same product, its results rounded to 16 bits, as on a processor that stores those."""
    return replace(format, matmul=lambda data, x, N: format.matmul(data, x, N).astype(
        np.float16).astype(np.float32))


FORMATS = {"BLAS, all rows at once": FLOAT32, "each row in one order": ROWS32,
           "BLAS, results in 16 bits": rounded(FLOAT32),
           "one order, results in 16 bits": rounded(ROWS32)}


def company(arch, weights, stream, tick):
    """[way, share of rows whose logits differ in some bit, requests with other tokens]: in company
    of 15 others against alone. stream() gives the same requests, new, at each call."""
    rows = []
    for name, format in FORMATS.items():
        packed = pack_rows(weights, format)
        together, single = (finished(arch, packed, stream(), most) for most in (16, 1))
        other = sum(a.ids != b.ids for a, b in zip(together, single))
        rows.append([name, differing(arch, packed, [r.known for r in together]), other,
                     len(together)])
        tick(1)
    return rows


def finished(arch, packed, stream, most):
    scheduler = Scheduler(arch, packed, BlockPool(arch, 24 * 8, 16, share=False), most,
                          rows=most if most == 1 else 64)
    for request in stream:
        scheduler.submit(request)
    scheduler.run()
    return stream


def differing(arch, packed, texts):
    """Share of tokens whose logits differ in company of B − 1 other texts and alone. B: at most
    16, the T first tokens of each."""
    T = min(24, sorted(map(len, texts))[-min(16, len(texts))])
    texts = [text for text in texts if len(text) >= T][:16]
    B, blocks = len(texts), 2
    pools = [BlockPool(arch, B * blocks, 16) for _ in range(2)]
    tables, differ = np.arange(B * blocks).reshape(B, blocks), 0
    for t in range(T):
        ids, where = np.array([text[t] for text in texts]), np.full(B, t)
        both = paged_decode(arch, packed, ids, where, tables, pools[0], attention=attend)
        for b in range(B):
            me = slice(b, b + 1)
            one = paged_decode(arch, packed, ids[me], where[me], tables[me], pools[1],
                               attention=attend)
            differ += int((both[b] != one[0]).any())
    return differ / (B * T)


def request_like(other):
    """The same request, not yet served."""
    return Request(other.prompt, other.n, other.seed, other.options)
