"""Day 52 · A Llama inside a GGUF file: its shape, its names, and rows in our order.

The file calls a matrix blk.3.attn_q.weight and keeps queries and keys permuted, so that rotary
turns neighbours; ours is blocks.3.qkv.w and turns halves (day 31). A permutation of outputs is a
permutation of rows, so it needs no arithmetic: quantised rows move as whole bytes.
Left out: experts, scaled rotary frequencies, other families (Qwen, Gemma …); each is refused.
Source: ggml, docs/gguf.md, "LLaMA", and convert_hf_to_gguf.py, `LlamaModel.permute`.
"""

import numpy as np

from llm.weights.blocks import dequantise
from llm.weights.cursor import GGUFError

PARTS = {"norm1": ["attn_norm"], "qkv": ["attn_q", "attn_k", "attn_v"],
         "project": ["attn_output"], "norm2": ["ffn_norm"], "gate": ["ffn_gate"],
         "up": ["ffn_up"], "down": ["ffn_down"]}
ENDS = {"w": "weight", "gain": "weight", "b": "bias"}


def need(file, key, kind=int, default=None):
    """A metadata value of this type; GGUFError where it is missing or of another."""
    value = file.metadata.get(key, default)
    if value is None:
        raise GGUFError(f"{file.path} does not say its {key}; is it a whole model?")
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise GGUFError(f"{file.path} has {key} = {str(value)[:40]!r}, wanted "
                        f"{getattr(kind, '__name__', 'a number')}")
    return value


def describe(file):
    """{field of day 42's Architecture: value} of an open GGUF, as plain numbers and strings.

    GGUFError for what cannot be run here.
    """
    family = need(file, "general.architecture", str)
    if family != "llama":
        raise GGUFError(f"{file.path} holds the architecture {family!r}; only 'llama' is run here")
    say = lambda key, *rest: need(file, f"llama.{key}", *rest)
    if say("expert_count", int, 0) or say("rope.scaling.type", str, "none") != "none" or (
            "rope_freqs.weight" in file.tensors):
        raise GGUFError(f"{file.path} wants experts or scaled rotary frequencies, which are not "
                        "run here; take a plain Llama")
    if "token_embd.weight" not in file.tensors:
        raise GGUFError(f"{file.path} has no token_embd.weight; is it a whole model?")
    C, H, L = say("embedding_length"), say("attention.head_count"), say("block_count")
    if len(file.tensors) < 9 * L or not H:
        raise GGUFError(f"{file.path} says {L:,} blocks of {H:,} heads but holds "
                        f"{len(file.tensors)} tensors; is it one shard of several?")
    D = say("attention.key_length", int, C // H)
    if say("rope.dimension_count", int, D) != D or say("attention.value_length", int, D) != D:
        raise GGUFError(f"{file.path} turns part of a head only, or has values of another size "
                        "than keys, which is not run here")
    return {"V": file.tensors["token_embd.weight"].shape[0], "T": say("context_length"), "C": C,
            "L": L, "H": H, "K": say("attention.head_count_kv", int, H), "D": D,
            "F": say("feed_forward_length"), "norm": "rms",
            "eps": say("attention.layer_norm_rms_epsilon", float),
            "rotary": say("rope.freq_base", float, 10000.0), "feed_forward": "swiglu"}


def names(file, L):
    """{our name: the file's names whose rows, one after another, are its outputs}, L blocks.

    GGUFError if the file holds a tensor that none of ours is made of.
    """
    found = {"embed": ["token_embd.weight"], "norm.gain": ["output_norm.weight"]}
    if "output.weight" in file.tensors:
        found["head"] = ["output.weight"]
    for i in range(L):
        for part, theirs in PARTS.items():
            for end in ("gain",) if "norm" in part else ("w", "b"):
                sources = [f"blk.{i}.{name}.{ENDS[end]}" for name in theirs]
                if end != "b" or sources[0] in file.tensors:
                    found[f"blocks.{i}.{part}.{end}"] = sources
    unknown = set(file.tensors) - {source for sources in found.values() for source in sources}
    if unknown:
        raise GGUFError(f"{file.path} holds {min(unknown)!r}, which a plain Llama does not have")
    return found


def row_order(heads, D):
    """Which row of the file is our row 0, 1, … of queries or keys: (heads·D,) integers.

    Half-split channel i of a head is interleaved channel 2i, and channel D/2 + i is 2i + 1.
    """
    order = np.arange(D).reshape(D // 2, 2).T.reshape(D)             # 0, 2, 4 … 1, 3, 5 …
    return (np.arange(heads)[:, None] * D + order).reshape(-1)


def block_rows(file, about, sources):
    """The file's own bytes of one of our arrays: [(BlockType, (rows, bytes of a row) uint8), …].

    about: as from `describe`; sources: a value of `names`. One entry for each of them, its rows in
    our order, so that an engine can repack blocks as they are. A bias is one row in the file, and
    here one row for each output.
    """
    found = []
    for source in sources:
        if source not in file.tensors:
            raise GGUFError(f"{file.path} lacks {source}; is it a whole model?")
        kind, raw = file.tensors[source].kind, file.raw(source)
        if source.endswith("bias"):
            raw = raw.reshape(-1, kind.bytes)
        heads = {"attn_q": about["H"], "attn_k": about["K"]}.get(source.split(".")[-2])
        if heads:
            if len(raw) != heads * about["D"]:
                raise GGUFError(f"{file.path}: {source} has {len(raw)} rows, and {heads} heads "
                                f"of {about['D']} want {heads * about['D']}")
            raw = raw[row_order(heads, about["D"])]
        found.append((kind, raw))
    return found


def float_weights(file, about):
    """{our name: float32 array} for day 42's decode; matrices are transposed views (Cin, Cout).

    GGUFError at the first array that is missing, or not finite. Shapes are not checked here:
    that is day 42's `check_weights`.
    """
    weights = {}
    for name, sources in names(file, about["L"]).items():
        parts = [dequantise(rows, kind) for kind, rows in block_rows(file, about, sources)]
        if len({part.shape[1] for part in parts}) > 1:
            raise GGUFError(f"{file.path}: the parts of {name} have rows of different length")
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(array).all():
            raise GGUFError(f"{file.path}: {name} holds weights that are not finite numbers; "
                            "the file is damaged, fetch it again")
        if name == "embed":
            weights[name] = array
        else:
            weights[name] = array.T if name == "head" or name.endswith(".w") else array.reshape(-1)
    return weights
