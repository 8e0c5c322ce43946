"""Day 39 · Exercises to build; `python -m days check 39` grades them."""

import numpy as np

from llm.models.by_hand import plain
from llm.models.by_hand.arena import Buffer, most_alive, place
from llm.models.by_hand.buffers import activations
from llm.models.gpt import GPTConfig


def attend_in_blocks(matmul, q, k, v, factor, weights, out, size):
    """Causal attention, `size` queries at a time, without scoring keys behind the last of them.

    q, k, v (B, H, T, D); weights (B, H, T, T) and out (B, H, T, D) are written; the weights of the
    future become 0. Make no new array of T × T: matmul(a, b, out) wants views. size may leave a
    rest. Example with T = 5 and size 2: the blocks are queries 0–1 with keys 0–1, queries 2–3 with
    keys 0–3, and query 4 with keys 0–4. (The softmax of one block may have temporaries.)
    """
    raise NotImplementedError


def search(buffers, tries, rng):
    """Place `buffers` largest first, and in `tries` random orders: the best (offsets, bytes).

    Example: for three buffers a, b, c there are six orders; with enough tries all are met.
    """
    raise NotImplementedError


def check_attend_in_blocks(f):
    """Equal to the whole, for block sizes that divide T and that do not; and less work."""
    rng = np.random.default_rng(0)
    for T, size in ((5, 2), (8, 4), (9, 9), (7, 1), (6, 20)):
        q, k, v = rng.standard_normal((3, 2, 3, T, 4)).astype(np.float32)
        whole = q @ k.mT
        plain.softmax(whole, .5)
        flops = []

        def matmul(a, b, out):
            flops.append(2 * a.size * b.shape[-1])                     # noqa: B023
            np.matmul(a, b, out=out)

        weights, out = np.full((2, 3, T, T), 9, np.float32), np.empty_like(q)
        f(matmul, q, k, v, .5, weights, out, size)
        assert np.abs(weights - whole).max() < 1e-6, f"weights, T {T}, size {size}"
        assert np.abs(out - whole @ v).max() < 1e-5, f"out, T {T}, size {size}"
        ends = [min(t + size, T) for t in range(0, T, size)]
        pairs = sum((end - start) * end for start, end in zip([0, *ends], ends))
        assert sum(flops) == 2 * 2 * 6 * pairs * 4, "score each block's keys, and no more"


def check_search(f):
    """No overlap, never worse than largest first, and the best of six where that is known."""
    three = [Buffer("a", (48,), frozenset({0})), Buffer("b", (32,), frozenset({0, 1})),
             Buffer("c", (64,), frozenset({1}))]
    assert f(three, 50, np.random.default_rng(0))[1] == most_alive(three) == 384
    rng = np.random.default_rng(1)
    for _ in range(4):
        config = GPTConfig(V=int(rng.integers(2, 300)), T=16, C=12, L=2, H=2)
        buffers = activations(config, 2, 16)
        offsets, total = f(buffers, 20, rng)
        assert total <= place(sorted(buffers, key=lambda b: -b.nbytes))[1]
        assert set(offsets) == {b.name for b in buffers}
        for i, a in enumerate(buffers):
            for b in buffers[:i]:
                if a.alive & b.alive:
                    apart = (offsets[a.name] + a.nbytes <= offsets[b.name]
                             or offsets[b.name] + b.nbytes <= offsets[a.name])
                    assert apart, f"{a.name} and {b.name} overlap"
        assert total == max(offsets[b.name] + b.nbytes for b in buffers)
