"""Day 49 · From GPT to Llama one change at a time: what each takes or gives, in parameters."""

from llm.models import gpt, llama
from llm.models.gpt import GPTConfig


def ladder(config):
    """[[change, parameters after it, numbers in the cache a token]], from GPT to `config`'s Llama.

    The GPT has the Llama's V, T, C, L and H, and 4·C channels in its feed-forward.
    """
    V, T, C, L, H, K = (getattr(config, name) for name in "VTCLHK")
    D, wide = C // H, 2 * L * C
    start = gpt.count_parameters(GPTConfig(V, T, C, L, H))
    changes = [("GPT, learned positions", start, wide),
               ("rotary positions", -T * C, wide),
               ("RMSNorm: no biases in norms", -(2 * L + 1) * C, wide),
               ("no biases in matrices", -9 * L * C, wide),
               ("SwiGLU of F channels", L * (3 * C * config.F - 8 * C * C), wide),
               ("K heads of keys and values", -2 * L * C * (H - K) * D, 2 * L * K * D)]
    if not config.tied:
        changes.append(("a head of its own", V * C, 2 * L * K * D))
    rows, total = [], 0
    for name, change, cache in changes:
        total += change
        rows.append([name, total, cache])
    assert total == llama.count_parameters(config)
    return rows
