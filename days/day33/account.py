"""Day 33 · The account of one block: what the formulas say, and what it really takes."""

import time
from dataclasses import dataclass

import numpy as np

from days.day33.counting import Watched, counted
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward, count_flops, count_parameters, count_saved
from llm.layers.module import Embedding
from llm.layers.norm import LayerNorm

B = 2           # texts


@dataclass(frozen=True)
class Row:
    C: int
    H: int
    T: int
    parameters: int
    parameters_measured: int
    flops: int             # forward, a token
    flops_measured: float
    backward: float        # FLOPs of the backward over those of the forward, measured
    saved: int             # bytes a token, float32
    saved_measured: float
    gflops: float          # forward FLOPs a nanosecond, fastest of nine
    products: float        # share of the forward's time spent in matrix products
    backward_time: float   # time of the backward over that of the forward


def account(C, H, T, ids, V, seed):
    """One block on B texts of T characters: what it counts and what it really takes."""
    rng = np.random.default_rng(seed)
    block = Block(LayerNorm(C), MultiHeadAttention(C, H, rng), LayerNorm(C), FeedForward(C, rng))
    x = Tensor(Embedding(V, C, rng)(ids[:B * T].reshape(B, T)).data, requires_grad=True)
    with counted() as flops:
        out = block(x)
        forward = flops()
        out.sum().backward()
        both = flops()
    saved, ones, times = saved_bytes(block(x)), np.ones_like(x.data), []
    for _ in range(9):
        start = time.perf_counter()
        out = block(x)
        middle = time.perf_counter()
        out.backward(ones)
        end = time.perf_counter()
        with counted():
            block(x)
            times.append((middle - start, end - middle, Watched.seconds,
                          time.perf_counter() - end))
    there, back, products, watched = np.min(times, axis=0)
    return Row(C, H, T, count_parameters(C), block.count_parameters(), count_flops(C, T),
               forward / (B * T), (both - forward) / forward, 4 * count_saved(C, T, H),
               saved / (B * T), forward / there / 1e9, products / watched, back / there)
