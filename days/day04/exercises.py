"""Day 04 · Build: blocks by hand, and the best order of a chain of products."""

import numpy as np


def blocked_matmul(a, b, block):
    """a (M, K) @ b (K, N) as a sum of products of blocks of at most `block` × `block`.

    Multiply blocks with `@`, add each product into its place in c, and mind the last, smaller
    blocks. Never multiply a block larger than `block` × `block`. ::

        c[0:2, 0:2] = a[0:2, 0:2] @ b[0:2, 0:2] + a[0:2, 2:4] @ b[2:4, 0:2] + …     for block = 2
    """
    raise NotImplementedError


def fewest_flops(sides):
    """The fewest FLOPs in which a chain of matrices can be multiplied, by the best bracketing.

    Matrix i has the shape (sides[i], sides[i + 1]); there is at least one. A product of (M, K) and
    (K, N) takes 2·M·K·N FLOPs, and all bracketings give the same matrix. ::

        fewest_flops([1000, 8, 1000, 1])     a (1000, 8), b (8, 1000), x (1000, 1)
            (a b) x  16,000,000 + 2,000,000 FLOPs
            a (b x)      16,000 +    16,000 FLOPs   ->  32000
    """
    raise NotImplementedError


class _Watched(np.ndarray):
    """An array that notes the largest side of anything it is multiplied with."""

    largest = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(x) for x in inputs]
        if ufunc is np.matmul:
            _Watched.largest = max([_Watched.largest, *(side for x in plain for side in x.shape)])
        if out is not None:
            options["out"] = tuple(np.asarray(x) for x in out)
        return getattr(ufunc, method)(*plain, **options)


def check_blocked_matmul(f):
    rng = np.random.default_rng(0)
    for m, k, n, block in ((4, 4, 4, 2), (5, 7, 3, 2), (1, 9, 1, 4), (6, 6, 6, 100), (3, 0, 2, 2)):
        a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
        _Watched.largest = 0
        c = np.asarray(f(a.view(_Watched), b.view(_Watched), block))
        assert c.shape == (m, n) and np.allclose(c, a @ b), f"({m}, {k}) @ ({k}, {n}), {block}"
        assert _Watched.largest <= block, f"multiplied a side of {_Watched.largest} > {block}"


def _all_bracketings(sides):
    """The oracle: every place of the last product, without remembering anything."""
    if len(sides) == 2:
        return 0
    return min(_all_bracketings(sides[:at + 1]) + _all_bracketings(sides[at:])
               + 2 * sides[0] * sides[at] * sides[-1] for at in range(1, len(sides) - 1))


def check_fewest_flops(f):
    assert f([1000, 8, 1000, 1]) == 32_000, "the example"
    assert f([3, 4]) == 0 and f([3, 4, 5]) == 120, "one matrix, two matrices"
    rng = np.random.default_rng(1)
    for count in range(2, 9):
        sides = rng.integers(1, 50, count).tolist()
        assert f(sides) == _all_bracketings(sides), f"sides {sides}"
    assert f([2] * 61) == 59 * 16, "60 matrices: remember the parts that you know already"
    return "each part of the chain is worked out once"
