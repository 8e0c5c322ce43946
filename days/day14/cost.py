"""Day 14 · What a rule costs: operations and bytes as derived, seconds as measured; its error."""

import time

import numpy as np

from llm.functions.embedding import one_hot
from llm.grad import rules
from llm.grad.check import numerical_gradient

COST = {  # for each number of out: FLOPs forward, backward; numbers moved at least, both ways
    "cross_entropy": (5, 2, 2, 2), "softmax": (5, 4, 2, 3), "sigmoid": (7, 3, 2, 3),
    "add": (1, 0, 3, 0), "add bias": (1, 1, 2, 1), "sub": (1, 1, 3, 2), "mul": (1, 2, 3, 5),
    "div": (1, 3, 3, 5), "relu": (1, 2, 2, 3), "tanh": (1, 3, 2, 3), "silu": (8, 12, 2, 3),
    "gelu": (11, 20, 2, 3), "embedding": (0, 1, 2, 3)}


def worst_error(f, f_vjp, arrays, probes, rng, change=True):
    """Worst relative error over `probes` random entries of each float64 input, as on day 12.

    What is measured is the change of the output times dout, summed: there is less to round than
    in the sum of the output times dout, which is measured where `change` is false.
    """
    out, saved = f(*arrays)
    dout = np.asarray(rng.standard_normal(np.shape(out)))
    errors = []
    for i, grad in enumerate(f_vjp(dout, *saved)):
        if grad is None:
            continue
        where = rng.choice(grad.size, probes, replace=False)
        changed = [np.array(a) for a in arrays]

        def loss(values, changed=changed, i=i, where=where):
            changed[i].flat[where] = values
            return np.sum((f(*changed)[0] - (out if change else 0.0)) * dout)

        numeric = numerical_gradient(loss, arrays[i].flat[where].copy())
        analytic = grad.flat[where]
        errors.append(np.abs(analytic - numeric) / np.maximum(1, np.abs(numeric)))
    return float(np.max(errors))


def narrow(array):
    """float64 as float32, in which training runs; ids as they are."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def time_ratio(f, f_vjp, arrays, repeats, rng):
    """Fastest backward ÷ fastest forward, forward seconds, numbers in out.

    The fastest of interleaved calls is the one that nothing else on the machine disturbed.
    """
    out, saved = f(*arrays)
    dout = np.asarray(rng.standard_normal(np.shape(out)), np.float32)
    forward, backward = fastest(repeats, lambda: f(*arrays), lambda: f_vjp(dout, *saved))
    return backward / forward, forward, max(np.size(out), 1)


def fastest(repeats, *calls):
    """The seconds of the fastest of `repeats` interleaved runs of each call."""
    seconds = []
    for _ in range(repeats):
        row = []
        for call in calls:
            started = time.perf_counter()
            call()
            row.append(time.perf_counter() - started)
        seconds.append(row)
    return np.min(seconds, axis=0).tolist()


def view_ratio(a, b, repeats, rng):
    """Time of a @ b with b a transposed view ÷ with b a contiguous copy, and of the backward."""
    dout = rng.standard_normal((*a.shape[:-1], b.shape[-1])).astype(np.float32)
    view = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    copy = np.ascontiguousarray(b)
    backward = rules.matmul_vjp
    times = fastest(repeats, lambda: a @ view, lambda: a @ copy,
                    lambda: backward(dout, a, view), lambda: backward(dout, a, copy))
    return [times[0] / times[1], times[2] / times[3]]


def sign_ratio(x, repeats, rng):
    """relu's backward ÷ forward with the signs of x as they are, and with x sorted."""
    dout = rng.standard_normal(x.shape).astype(np.float32)
    out, ordered = np.maximum(x, 0), np.maximum(np.sort(x, axis=None), 0).reshape(x.shape)
    forward, mixed, sorted_ = fastest(repeats, lambda: rules.relu(x),
                                      lambda: rules.relu_vjp(dout, out),
                                      lambda: rules.relu_vjp(dout, ordered))
    return [mixed / forward, sorted_ / forward]


def lookup_ratio(table, ids, repeats, rng):
    """Backward ÷ forward of a lookup: by np.add.at, and as the matrix product that it is."""
    dout = rng.standard_normal((*ids.shape, table.shape[1])).astype(np.float32)
    rows = dout.reshape(-1, table.shape[1])
    forward, scatter, product = fastest(
        repeats, lambda: table[ids], lambda: rules.embedding_vjp(dout, ids, table.shape),
        lambda: one_hot(ids.ravel(), len(table), np.float32).T @ rows)
    return [scatter / forward, product / forward]


def cost(label, arrays, size):
    """FLOPs forward, and the ratios backward ÷ forward of FLOPs and of the least bytes moved."""
    if label in ("linear", "matmul"):
        a, b = arrays[0].size, arrays[1].size
        return 2 * size * arrays[0].shape[-1], 2.0, (2 * a + 2 * b + size) / (a + b + size)
    size = arrays[0].size if label == "cross_entropy" else size
    forward, backward, read, moved = COST[label]
    return size * forward, backward / forward if forward else None, moved / read
