"""Day 54 · What a fine-tuning step of a Llama costs: numbers trained, kept, bytes, FLOPs.

All are the note's formulas; the tests hold `kept` against what the tape really keeps.
"""

from llm.models.llama import count_flops, count_parameters
from llm.tune.nf4 import bits_a_weight

WAYS = ("everything", "LoRA", "LoRA, lean", "QLoRA, lean")


def shape(config):
    """(weights in a block's matrices, width of qkv, sum of P·Cin + Cout over its matrices)."""
    C, F, KD = config.C, config.F, config.K * config.C // config.H
    width = C + 2 * KD
    return 2 * C * C + 2 * KD * C + 3 * C * F, width, (3 * C + width) + 2 * C + 3 * (C + F)


def trained(config, rank):
    """Numbers that adapters of this rank on all linear layers have."""
    return config.L * rank * shape(config)[2]


def kept(config, way, rank, T):
    """float32 numbers a token that the record keeps, in a window of T, with flash attention.

    Where everything is trained, the logits count, which are kept for the loss (day 38), and the
    ids and targets (64 bits each); the chunked head keeps the gradient of its input, C numbers.
    """
    C, F, H, width = config.C, config.F, config.H, shape(config)[1]
    # inputs of two norms with 1/rms each; their outputs; q k v; the heads' answers and log-sums
    block = 2 * (C + 1) + 2 * C + 3 * C + C + H + 3 * F
    if way != "everything":
        block += rank * 7                                        # x A of seven matrices
    if "lean" in way:
        block += width - 3 * C - F
    first = 0 if way == "everything" else C + 1    # nothing before the first norm is trained
    end = C + 1 + (C + config.V + 1 + 4 if way == "everything" else C)
    return config.L * block - first + end


def account(config, way, rank, B, T):
    """Bytes of a step: {"weights", "trained" (gradient, m and v), "kept"} and the sum, "all"."""
    matrices, total = config.L * shape(config)[0], count_parameters(config)
    n = total if way == "everything" else trained(config, rank)
    weights = 4 * total
    if way.startswith("QLoRA"):
        weights = 4 * (total - matrices) + matrices * bits_a_weight() / 8
    adapters = 0 if way == "everything" else 4 * n
    parts = {"weights": weights + adapters, "trained": 12 * n,
             "kept": 4 * B * T * kept(config, way, rank, T)}
    return parts | {"all": sum(parts.values())}


def flops(config, way, rank):
    """Of one token's step in the matrices: forward 2 a weight, dx 2, and dW 2 where it is trained.

    Adapters cost 6 for each of their numbers. Scores and averages are left out: the same for all.
    """
    weights = (count_flops(config) - 4 * config.L * config.T * config.C) // 2
    if way == "everything":
        return 6 * weights
    return 4 * weights + 6 * trained(config, rank)
