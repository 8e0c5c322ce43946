"""Day 43 · A whole token in one compiled call: every matrix, all threads, five barriers a layer.

    every thread for itself     stream += branch · norm · prepare       (too small to share)
    the threads share           the tiles of a matrix, or the heads     (bias, activation: own part)
    barrier

A phase needs all of the vector that the phase before has made, hence the barrier; nothing else is
waited for. What a thread computes for itself, every other computes as well: C additions and a norm
take less time than to make one thread do them and the others wait.

The function is compiled once, for all formats, sizes and architectures: which `rows` is called,
and on what, stands in tables (llm/kernels/pointers.py). Left out: more than one sequence (day 47).
"""

import numpy as np
from numba import njit, prange

from llm.kernels.barrier import meet, roll_call, ticks
from llm.kernels.matvec import R
from llm.kernels.plan import (
    DATA,
    DOWN,
    GAIN1,
    GAIN2,
    GATE,
    PHASES,
    PREPARE,
    PROJECT,
    QKV,
    ROWS,
    SHIFT1,
    SHIFT2,
    SIZE,
    UP,
    VECTORS,
    K,
    N,
    plan_at,
)
from llm.kernels.pointers import bytes_at, call_prepare, call_rows
from llm.kernels.step import add, attend, copy, gate, gelu, normalise, turned


@njit(error_model="numpy")
def share(count, rank, team):
    """Which of `count` things this thread does: first, last."""
    return count * rank // team, count * (rank + 1) // team


@njit(error_model="numpy")
def vector(vectors, places, i):
    """Gain or bias number i; empty where there is none."""
    return vectors[places[i]:places[i + 1]]


@njit(error_model="numpy")
def product(matrix, bias, x, work, y, rank, team):
    """This thread's tiles of y = W x + b, x having been prepared; where in y they are.

    matrix: a row of Plan.matrices; bias (N,), or empty.
    """
    first, last = share((matrix[N] + R - 1) // R, rank, team)
    data = bytes_at(matrix[DATA], matrix[SIZE])
    call_rows(matrix[ROWS], (data, x, work, y, matrix[K], first, last))
    add(y[R * first:R * last], bias[R * first:R * last])
    return R * first, R * last


@njit(error_model="numpy")
def mix(qkv, keys, values, cos, sin, position, desk, heads, rank, team):
    """This thread's heads: q (turned and scaled) meets the cache and the newest key.

    qkv (H + 2K, D); keys, values (K, T, D) of one layer; heads (H, D) out. The thread that has a
    group's first head writes the group's new key and value to the cache; others, who may need
    them now, turn the key for themselves.
    """
    H, D = heads.shape
    n_keys = len(keys)
    group = H // n_keys
    q, key, scores = desk[:D], desk[D:2 * D], desk[2 * D:]
    factor = np.float32(1) / np.sqrt(np.float32(D))
    first, last = share(H, rank, team)
    for h in range(first, last):
        g = h // group
        value = qkv[H + n_keys + g]
        if h == first or h % group == 0:
            turned(qkv[H + g], cos, sin, np.float32(1), key)
        if h % group == 0:
            copy(key, keys[g, position])
            copy(value, values[g, position])
        turned(qkv[h], cos, sin, factor, q)
        attend(q, keys[g].reshape(-1), values[g].reshape(-1), key, value, position, scores,
               heads[h])


@njit(error_model="numpy")
def ahead(p, m, rank, team):
    """Where this thread's tiles of matrix m begin, and how much of them to read ahead."""
    matrix = p.matrices[m]
    count = (matrix[N] + R - 1) // R
    first, last = share(count, rank, team)
    tile = matrix[SIZE] // count
    return matrix[DATA] + first * tile, min((last - first) * tile, p.ahead)


@njit(error_model="numpy")
def pass_barrier(p, phase, rank, team, where, size):
    """Wait for all, reading ahead; the first of the team writes down when."""
    meet(p.sync, team * (phase + 1), where, size)
    if rank == 0:
        p.marks[phase + 1] = ticks()


@njit(error_model="numpy")
def token(p, position, rank, team):
    """One thread's part of a token: p.x -> its part of p.logits; position: tokens in the cache."""
    C, vs, at = p.x.size, p.vectors, p.places
    desk, work = p.desks[rank], p.works[rank]
    stream, normal, rest = desk[:C], desk[C:2 * C], desk[2 * C:]
    inner, branch, heads = p.up[:p.F], p.branch[:C], p.heads.reshape(p.H, p.D)
    qkv = p.qkv[:(p.H + 2 * p.K) * p.D].reshape(p.H + 2 * p.K, p.D)
    cos, sin = p.cos[position], p.sin[position]
    group = share(p.H, rank, team)[0] * p.K // p.H              # that of this thread's first head
    if rank == 0:
        p.marks[0] = ticks()
    copy(p.x, stream)
    for layer in range(p.L):
        m, b, phase = p.matrices[5 * layer:], VECTORS * layer, PHASES * layer
        if layer:
            add(stream, branch)
        normalise(stream, vector(vs, at, b + GAIN1), vector(vs, at, b + SHIFT1), p.eps, p.rms,
                  normal)
        call_prepare(m[QKV, PREPARE], (normal, work))
        product(m[QKV], vector(vs, at, b + QKV), normal, work, p.qkv, rank, team)
        keys = p.k16[layer, group].ctypes.data if p.half else p.k[layer, group].ctypes.data
        size = position * p.D * (2 if p.half else 4)
        pass_barrier(p, phase, rank, team, keys, min(size, p.ahead))

        if p.half:
            mix(qkv, p.k16[layer], p.v16[layer], cos, sin, position, rest, heads, rank, team)
        else:
            mix(qkv, p.k[layer], p.v[layer], cos, sin, position, rest, heads, rank, team)
        pass_barrier(p, phase + 1, rank, team, *ahead(p, 5 * layer + PROJECT, rank, team))

        call_prepare(m[PROJECT, PREPARE], (p.heads, work))
        product(m[PROJECT], vector(vs, at, b + PROJECT), p.heads, work, p.branch, rank, team)
        pass_barrier(p, phase + 2, rank, team, *ahead(p, 5 * layer + UP, rank, team))

        add(stream, branch)
        normalise(stream, vector(vs, at, b + GAIN2), vector(vs, at, b + SHIFT2), p.eps, p.rms,
                  normal)
        call_prepare(m[UP, PREPARE], (normal, work))
        first, last = product(m[UP], vector(vs, at, b + UP), normal, work, p.up, rank, team)
        if p.gated:
            if m[GATE, PREPARE] != m[UP, PREPARE]:
                call_prepare(m[GATE, PREPARE], (normal, work))
            product(m[GATE], vector(vs, at, b + GATE), normal, work, p.gate, rank, team)
            gate(p.up[first:last], p.gate[first:last])
        else:
            gelu(p.up[first:last])
        pass_barrier(p, phase + 3, rank, team, *ahead(p, 5 * layer + DOWN, rank, team))

        call_prepare(m[DOWN, PREPARE], (inner, work))
        product(m[DOWN], vector(vs, at, b + DOWN), inner, work, p.branch, rank, team)
        pass_barrier(p, phase + 4, rank, team, *ahead(p, 5 * layer + 5, rank, team))
    m, b = p.matrices[5 * p.L], VECTORS * p.L
    add(stream, branch)
    normalise(stream, vector(vs, at, b + GAIN1), vector(vs, at, b + SHIFT1), p.eps, p.rms, normal)
    call_prepare(m[PREPARE], (normal, work))
    product(m, vector(vs, at, b), normal, work, p.logits, rank, team)
    pass_barrier(p, PHASES * p.L, rank, team, 0, 0)


@njit(error_model="numpy", parallel=True, cache=True)
def step(table, position, threads):
    """A token by up to `threads` threads; who comes too late for the roll call is left out.

    table: the address of a plan's table, whose `sync` must be zero.
    """
    for thread in prange(threads):
        p = plan_at(table, threads)
        rank, team = roll_call(p.sync, thread, threads)
        if rank >= 0:
            token(p, position, rank, team)
