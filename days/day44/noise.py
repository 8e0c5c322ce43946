"""Day 44 · Is the error of rounding what the derivation says: even within a step, s²/12?"""

import numpy as np

from days.day44.outliers import in_activations
from days.day44.study import CHANNEL, GROUP, TENSOR, TOKEN, inputs_seen
from llm.quantize.int8 import dequantize, quantize, spread, sqnr


def noise(x, options):
    """[largest |x| over rms, dB predicted, dB measured, share of zeros, error² over s²/12]."""
    quantised = quantize(x, **options)
    back = dequantize(quantised)
    step = np.broadcast_to(spread(quantised.scale, x.shape, quantised.axis, quantised.group),
                           x.shape).astype(np.float64)
    expected = (step**2).mean() / 12
    power = (x.astype(np.float64)**2).mean()
    return [float(np.abs(x).max() / power**0.5), float(10 * np.log10(power / expected)),
            sqnr(x, back), float((back == 0).mean()), float(((x - back)**2).mean() / expected)]


def noises(arch, weights, windows, layer, size, channel):
    """[what, by what scale, *noise] for weights and activations of one layer."""
    seen = inputs_seen(arch, weights, windows)
    planted = inputs_seen(arch, in_activations(arch, weights, size, channel), windows)
    name = lambda part: f"blocks.{layer}.{part}.w"
    w, spoilt = weights[name("up")], planted[name("up")]
    calm = np.delete(np.arange(arch.C), channel)
    rows = [["weights `up`", "tensor", *noise(w, TENSOR)],
            ["weights `up`", "channel", *noise(w, CHANNEL)],
            ["weights `up`", "group of 32", *noise(w, GROUP)],
            ["behind a norm", "token", *noise(seen[name("up")], TOKEN)],
            ["behind the GELU", "token", *noise(seen[name("down")], TOKEN)]]
    quantised = quantize(spoilt, **TOKEN)                # scales by the outlier, error of the rest
    rest, back = spoilt[:, calm], dequantize(quantised)[:, calm]
    expected = (quantised.scale.astype(np.float64)**2).mean() / 12
    power = (rest.astype(np.float64)**2).mean()
    rows.append(["behind a norm, beside the outlier", "token",
                 float(np.abs(spoilt).max() / power**0.5), float(10 * np.log10(power / expected)),
                 sqnr(rest, back), float((back == 0).mean()),
                 float(((rest - back)**2).mean() / expected)])
    return rows


def product_noise(arch, weights, windows, layer, rng):
    """[dB of the activations, of the weights, of the product predicted, measured, and measured
    with the channels of the activations shuffled, so that none meets the weights made for it]."""
    name = f"blocks.{layer}.up.w"
    x, w = inputs_seen(arch, weights, windows)[name], weights[name]
    xq, wq = dequantize(quantize(x, **TOKEN)), dequantize(quantize(w, **CHANNEL))
    a, b = sqnr(x, xq), sqnr(w, wq)
    other = rng.permutation(arch.C)
    return [a, b, float(-10 * np.log10(10 ** (-a / 10) + 10 ** (-b / 10))), sqnr(x @ w, xq @ wq),
            sqnr(x[:, other] @ w, xq[:, other] @ wq)]
