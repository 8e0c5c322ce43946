"""Day 04 · Controls of the day's claims: the orders of loops at other sizes, and other panels."""

from llm.tensors import matmul, roofline
from llm.tensors.timing import seconds_each


def elsewhere(orders, a, b, sizes, step):
    """GFLOP/s of each function of `orders` on the first m rows and columns, m of `sizes`."""
    pairs = {m: (a[:m, :m].copy(), b[:m, :m].copy()) for m in sizes}
    seconds = seconds_each({(k, m): lambda f=f, ab=ab: f(*ab)
                            for m, ab in pairs.items() for k, f in orders.items()}, 5, step=step)
    return {k: [roofline.flops(m, m, m) / seconds[k, m] / 1e9 for m in sizes] for k in orders}


def panels(a, b, step):
    """GFLOP/s of the register blocks on one thread, with a short panel of b and with ours."""
    a, b = matmul._ready(a, b)
    seconds = seconds_each({f"{p} × {q}": lambda p=p, q=q: matmul._tiled(a, b, 1, p, q)
                            for p, q in ((64, 128), matmul.PANEL)}, 5, step=step)
    return {k: roofline.flops(*a.shape, b.shape[1]) / s / 1e9 for k, s in seconds.items()}
