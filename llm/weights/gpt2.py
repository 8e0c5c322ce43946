"""Day 52 · GPT-2's published weights under our names, for day 34's GPT.

Hugging Face's GPT-2 keeps its matrices as a "Conv1D": (Cin, Cout), which is how ours lie, and
queries, keys and values side by side in one matrix, as ours do. So only names change.
Left out: PyTorch's pickled files, which run code when they are opened, and files cut into shards.
Source: transformers, modeling_gpt2.py, `GPT2LMHeadModel`.
"""

import re
from pathlib import Path

import numpy as np

from llm.weights.safetensors import SafetensorsError, read_safetensors

NAMES = {"wte.weight": "embed.table", "wpe.weight": "positions.table",
         "ln_f.weight": "norm.gain", "ln_f.bias": "norm.bias"}
PARTS = {"ln_1": "mix.norm", "attn.c_attn": "mix.inner.qkv", "attn.c_proj": "mix.inner.project",
         "ln_2": "think.norm", "mlp.c_fc": "think.inner.up", "mlp.c_proj": "think.inner.down"}
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")      # masks that old files carry along


class WeightsError(OSError):
    """The file cannot be read, or holds no GPT-2; one line says why."""


def gpt2_state(arrays):
    """{Hugging Face's name: array} -> {our name: float32 array}, for `GPT.load_state_dict`.

    Names may begin with "transformer."; lm_head.weight must equal the embedding, to which our head
    is tied. Raises WeightsError on any other name, naming it.
    """
    state = {}
    for name, array in arrays.items():
        name = name.removeprefix("transformer.")
        if BUFFERS.fullmatch(name) or name == "lm_head.weight":
            continue
        state[our_name(name)] = np.asarray(array, dtype=np.float32)
    head = arrays.get("lm_head.weight")
    if head is not None and not np.array_equal(head, state.get("embed.table")):
        raise WeightsError("lm_head.weight is not the embedding, but our GPT's head is tied to it; "
                           "these are not GPT-2's weights")
    return state


def our_name(name):
    """h.3.attn.c_attn.weight -> blocks.3.mix.inner.qkv.w"""
    if name in NAMES:
        return NAMES[name]
    match = re.fullmatch(r"h\.(\d+)\.(.+)\.(weight|bias)", name)
    if not match or match[2] not in PARTS:
        raise WeightsError(f"{name!r} is no name of GPT-2's weights; is it another architecture?")
    i, part, kind = match.groups()
    ends = {"weight": "gain", "bias": "bias"} if "ln" in part else {"weight": "w", "bias": "b"}
    return f"blocks.{i}.{PARTS[part]}.{ends[kind]}"


def read_arrays(path):
    """{name: array} from a .npz or a .safetensors file. WeightsError with one line if it cannot."""
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as found:
                return dict(found)
        if path.suffix == ".safetensors":
            return read_safetensors(path)[0]
    except SafetensorsError as error:
        raise WeightsError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from None
    raise WeightsError(f"{path} is neither .npz nor .safetensors; a .bin or .pt file holds "
                       "programs besides weights and is not opened here")
