"""Day 64 · A GPT out of a GGUF file: what `export_gguf` writes besides Llamas, read back.

Day 52 opens Llamas. The families gpt2 and gptneox differ in names and keys only; their weights are
dequantised to float32, since these models are small here. Left out: GPT-NeoX with both branches at
once or a part of each head turned, as the published ones have it; they are refused.
Source: ggml, docs/gguf.md, "GPT2" and "GPTNeoX".
"""

import numpy as np

from llm.weights.cursor import GGUFError
from llm.weights.forms import IN_GGUF, family, restore
from llm.weights.llama import need

FAMILIES = ("gpt2", "gptneox")


def describe_gpt(file):
    """{field of day 42's Architecture: value} of an open GGUF; GGUFError for what is not run."""
    name = need(file, "general.architecture", str)
    say = lambda key, *rest: need(file, f"{name}.{key}", *rest)
    if "token_embd.weight" not in file.tensors:
        raise GGUFError(f"{file.path} has no token_embd.weight; is it a whole model?")
    C, H = say("embedding_length"), say("attention.head_count")
    if not H:
        raise GGUFError(f"{file.path} has no heads; the file is damaged")
    about = {"V": file.tensors["token_embd.weight"].shape[0], "T": say("context_length"), "C": C,
             "L": say("block_count"), "H": H, "K": H, "D": C // H, "F": say("feed_forward_length"),
             "eps": say("attention.layer_norm_epsilon", float)}
    if name == "gptneox":
        about["rotary"] = say("rope.freq_base", float, 10000.0)
        if say("use_parallel_residual", bool, True) or say("rope.dimension_count", int) != C // H:
            raise GGUFError(f"{file.path} runs both branches at once or turns a part of each head, "
                            "as published GPT-NeoX models do; that is not run here")
    return about


def gpt_arrays(file, arch):
    """{our name: float32 array}; arch: the Architecture that `describe_gpt` makes. GGUFError."""
    arrays = {name: file.array(name) for name in file.tensors}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise GGUFError(f"{file.path}: {name} holds weights that are not finite numbers; the "
                            "file is damaged")
    try:
        return restore(IN_GGUF[family(arch)], arch, arrays)
    except ValueError as error:
        raise GGUFError(f"{file.path} contradicts itself: {error}") from None
