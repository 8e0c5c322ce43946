"""Day 58 · Solutions of exercises.py."""

import numpy as np

from llm.align.dpo import dpo, dpo_vjp, margin
from llm.functions.margins import bradley_terry, bradley_terry_vjp


def smoothed_dpo():
    def f(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, eps=0.1):
        right, a = dpo(chosen, rejected, ref_chosen, ref_rejected, beta)
        wrong, b = dpo(rejected, chosen, ref_rejected, ref_chosen, beta)
        return (1 - eps) * right + eps * wrong, (eps, a, b)

    def f_vjp(dout, eps, a, b):
        slope = dpo_vjp((1 - eps) * dout, *a)[0] + dpo_vjp(eps * dout, *b)[1]
        return slope, -slope, None, None

    return f, f_vjp


def positive_dpo():
    def f(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, weight=5.0):
        fallen = ref_chosen - chosen
        h = margin(chosen, rejected, ref_chosen, ref_rejected)
        loss, saved = bradley_terry(beta * (h - weight * np.maximum(fallen, 0)))
        return loss, (beta, 1 + weight * (fallen > 0).astype(h.dtype), *saved)

    def f_vjp(dout, beta, more, *saved):
        slope = beta * bradley_terry_vjp(dout, *saved)[0]
        return slope * more, -slope, None, None

    return f, f_vjp
