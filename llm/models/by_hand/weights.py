"""Day 39 · Parameters and gradients under short names, one namespace a block.

text.py writes `b.qkv` where the model says `blocks.3.mix.inner.qkv.w`. Left out: models with other
parts than day 34's GPT, which checks.py refuses.
"""

from types import SimpleNamespace

import numpy as np

BLOCK = {                                        # our names for a block's parameters, and day 33's
    "gain1": "mix.norm.gain", "bias1": "mix.norm.bias",
    "qkv": "mix.inner.qkv.w", "qkv_b": "mix.inner.qkv.b",
    "project": "mix.inner.project.w", "project_b": "mix.inner.project.b",
    "gain2": "think.norm.gain", "bias2": "think.norm.bias",
    "up": "think.inner.up.w", "up_b": "think.inner.up.b",
    "down": "think.inner.down.w", "down_b": "think.inner.down.b",
}


def paths(config):
    """The names of all parameters of a plain GPT."""
    found = ["embed.table", *([] if config.rotary else ["positions.table"])]
    found += [f"blocks.{i}.{path}" for i in range(config.L) for path in BLOCK.values()]
    return [*found, "norm.gain", "norm.bias"]


def named_alike(arrays, config, T):
    """{path: array} -> .table, .positions (T, C) or (0, C), .parts: L blocks, and the last norm."""
    parts = [SimpleNamespace(**{name: arrays[f"blocks.{i}.{path}"] for name, path in BLOCK.items()})
             for i in range(config.L)]
    parts.append(SimpleNamespace(gain1=arrays["norm.gain"], bias1=arrays["norm.bias"]))
    table = arrays["embed.table"]
    positions = np.zeros((0, config.C), table.dtype) if config.rotary else (
        arrays["positions.table"][:T])
    return SimpleNamespace(table=table, positions=positions, parts=parts)


def position_tables(model, T):
    """cos and sin (T, D/2) that queries and keys are turned by; without rows if none are."""
    rule = model.blocks[0].mix.inner.rule
    if model.embed.table.dtype == np.float64 and len(rule.tables(T)[0]):
        return tuple(table[:T] for table in rule.exact)
    return rule.tables(T)
