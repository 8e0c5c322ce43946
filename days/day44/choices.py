"""Day 44 · Which schemes are compared, and how their settings are chosen."""

from days.day44.outliers import in_activations, in_keys, smoothquant
from days.day44.study import CHANNEL, GROUP, TENSOR, TOKEN, Scheme, compare, ranges_of
from llm.quantize.calibrate import mse, percentile
from llm.quantize.int8 import min_max

SHARES = (0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99998,
          0.99999)
BY_GROUP = {"axis": -1, "group": 32}
GROUPED = ("weights by channel, activations by token", "by channel and token, after SmoothQuant")


def cut(ids, T):
    """ids (n,) -> windows (…, T + 1) that do not overlap."""
    return ids[:len(ids) // (T + 1) * (T + 1)].reshape(-1, T + 1)


def clipped(share):
    return {**CHANNEL, "calibrate": percentile(share)}


def chosen(model, inputs, windows, letters):
    """Percentiles for weights and for fixed inputs: of SHARES, those with the least KL.

    -> {what: share}, {what: {share: KL}}, {share: ranges of all inputs}
    """
    weights, tried = model[1], {}
    ranges = {share: ranges_of(inputs, percentile(share)) for share in SHARES}
    for what, scheme in (("weights", lambda share: Scheme(clipped(share))),
                         ("inputs", lambda share: Scheme(CHANNEL, "fixed"))):
        found = compare(model, {share: (weights, scheme(share), ranges[share])
                                for share in SHARES}, windows, letters)
        tried[what] = {share: found[share]["kl"] for share in SHARES}
    best = {what: min(found, key=found.get) for what, found in tried.items()}
    fixed = {"min–max": ranges_of(inputs, min_max), "percentile": ranges[best["inputs"]],
             "least squares": ranges_of(inputs, mse)}
    return best, tried, fixed


def variants(model, seen, shares, fixed):
    """name -> (weights, Scheme, ranges): the rows of the table."""
    weights = model[1]
    smooth = smoothquant(*model, seen)
    schemes = {
        "weights, by tensor": Scheme(TENSOR), "weights, by channel": Scheme(CHANNEL),
        "weights, by groups of 32": Scheme(GROUP),
        "weights, by channel, percentile": Scheme(clipped(shares["weights"])),
        "weights, by channel, least squares": Scheme({**CHANNEL, "calibrate": mse}),
        "activations alone, by token": Scheme(None, TOKEN),
        "weights by tensor, activations by token": Scheme(TENSOR, TOKEN),
        "weights by channel, activations by token": Scheme(CHANNEL, TOKEN),
        "both by groups of 32": Scheme(GROUP, BY_GROUP)}
    rows = {name: (weights, scheme, None) for name, scheme in schemes.items()}
    rows |= {f"weights by channel, activations fixed, {name}": (weights, Scheme(CHANNEL, "fixed"),
                                                               ranges)
             for name, ranges in fixed.items()}
    return rows | {
        "by channel and token, after SmoothQuant": (smooth, Scheme(CHANNEL, TOKEN), None),
        "cache alone": (weights, Scheme(cache=True), None),
        "by channel and token, and the cache": (weights, Scheme(CHANNEL, TOKEN, True), None)}


def grids(model, windows, letters, n):
    """{by: nats more} of weights whose ranges are 1.00, 1.01, … times as wide: other grids, as fine
    but for a few percent, so other errors of nearly the same size."""
    def wider(factor):
        return lambda rows, bits=8, symmetric=True: tuple(
            (end * factor).astype(rows.dtype) for end in min_max(rows))
    kinds = {"tensor": TENSOR, "channel": CHANNEL}
    found = compare(model, {(by, i): (model[1], Scheme({**kind, "calibrate": wider(1 + i / 100)}),
                                      None) for by, kind in kinds.items() for i in range(n)},
                    windows, letters)
    return {by: [found[by, i]["nats"] for i in range(n)] for by in kinds}


def bits(model, windows, letters, all_bits):
    """[bits, [KL by tensor, channel, group], [nats more]] of weights in fewer bits."""
    kinds = (TENSOR, CHANNEL, GROUP)
    found = compare(model, {(n, i): (model[1], Scheme({**kind, "bits": n}), None)
                            for n in all_bits for i, kind in enumerate(kinds)}, windows, letters)
    return [[n, *([found[n, i][key] for i in range(3)] for key in ("kl", "nats"))]
            for n in all_bits]


def outliers(kind, model, size, channel, seen, windows, letters):
    """{scheme: [KL, nats more]} of the same function with an outlier of this size."""
    arch, weights = model
    if kind == "activations":
        spoilt = in_activations(arch, weights, size, channel)
        rows = {GROUPED[0]: (spoilt, Scheme(CHANNEL, TOKEN), None),
                "both by groups of 32": (spoilt, Scheme(GROUP, BY_GROUP), None),
                "weights by channel, activations in float32": (spoilt, Scheme(CHANNEL), None),
                GROUPED[1]: (smoothquant(arch, spoilt, seen), Scheme(CHANNEL, TOKEN), None)}
    else:
        spoilt = in_keys(arch, weights, size)
        rows = {"weights by tensor": (spoilt, Scheme(TENSOR), None),
                "cache, by token and head": (spoilt, Scheme(cache=True), None),
                "weights by channel": (spoilt, Scheme(CHANNEL), None),
                "weights by groups of 32": (spoilt, Scheme(GROUP), None)}
    found = compare(model, rows, windows, letters)
    return {name: [found[name]["kl"], found[name]["nats"]] for name in rows}
