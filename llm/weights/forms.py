"""Day 64 · Forms: under which names, and in which order, other programs keep our weights.

A form lists, for one architecture in one kind of file, their names for ours. It goes both ways:
`rename` makes their arrays of ours, `restore` makes ours of theirs. Matrices lie with outputs
first, as they do in PyTorch, unless the form says otherwise. What is more than a name is `order`:
the outputs of our qkv, all queries, then keys, then values, stand elsewhere in some files.
Left out: experts, other norms or activations, and models cut into several files.
Sources: transformers, modeling_gpt2.py, modeling_gpt_neox.py, modeling_llama.py, for what the
arrays mean there; llama.cpp, convert_hf_to_gguf.py, `GPTNeoXModel.modify_tensors` and
`LlamaModel.permute`, for the other file.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llm.weights.llama import PARTS as LLAMA_PARTS
from llm.weights.llama import row_order


def as_ours(arch):
    """Our order of the outputs of qkv: none moves."""
    return np.arange((arch.H + 2 * arch.K) * arch.D)


def head_by_head(arch):
    """GPT-NeoX: the queries, keys and values of one head, then those of the next."""
    return np.arange(3 * arch.H * arch.D).reshape(3, arch.H, arch.D).swapaxes(0, 1).reshape(-1)


def neighbours(arch):
    """Llama in GGUF: channels 2i and 2i + 1 of a query or key are a pair; ours are half a head
    apart (day 31). Day 52 has the way back."""
    queries, keys = np.argsort(row_order(arch.H, arch.D)), np.argsort(row_order(arch.K, arch.D))
    first, then = arch.H * arch.D, (arch.H + arch.K) * arch.D
    return np.concatenate([queries, first + keys, np.arange(then, then + arch.K * arch.D)])


@dataclass(frozen=True)
class Form:
    """block: what stands before a part's name, {} the block's number; parts {ours: [theirs, …]},
    several where they keep queries, keys and values apart."""

    embed: str
    norm: str
    head: str
    block: str
    parts: dict
    order: Callable = as_ours
    positions: str | None = None
    inputs_first: bool = False     # matrices (Cin, Cout), as ours
    tied: bool = True              # whether the head may be missing, the embedding in its place


GGUF_PARTS = {"norm1": ["attn_norm"], "qkv": ["attn_qkv"], "project": ["attn_output"],
              "norm2": ["ffn_norm"], "up": ["ffn_up"], "down": ["ffn_down"]}
HUGGING_FACE = {
    "gpt2": Form("transformer.wte", "transformer.ln_f", "lm_head", "transformer.h.{}.", {
        "norm1": ["ln_1"], "qkv": ["attn.c_attn"], "project": ["attn.c_proj"], "norm2": ["ln_2"],
        "up": ["mlp.c_fc"], "down": ["mlp.c_proj"]}, as_ours, "transformer.wpe", True),
    "gpt_neox": Form("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out",
                     "gpt_neox.layers.{}.", {
        "norm1": ["input_layernorm"], "qkv": ["attention.query_key_value"],
        "project": ["attention.dense"], "norm2": ["post_attention_layernorm"],
        "up": ["mlp.dense_h_to_4h"], "down": ["mlp.dense_4h_to_h"]}, head_by_head),
    "llama": Form("model.embed_tokens", "model.norm", "lm_head", "model.layers.{}.", {
        "norm1": ["input_layernorm"],
        "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "project": ["self_attn.o_proj"], "norm2": ["post_attention_layernorm"],
        "gate": ["mlp.gate_proj"], "up": ["mlp.up_proj"], "down": ["mlp.down_proj"]}),
}
IN_GGUF = {
    "gpt2": Form("token_embd", "output_norm", "output", "blk.{}.", GGUF_PARTS, as_ours,
                 "position_embd"),
    "gpt_neox": Form("token_embd", "output_norm", "output", "blk.{}.", GGUF_PARTS, tied=False),
    "llama": Form("token_embd", "output_norm", "output", "blk.{}.", LLAMA_PARTS, neighbours),
}


def family(arch):
    """What others call this architecture: "gpt2", "gpt_neox" or "llama".

    arch: day 42's Architecture. Raises ValueError where none of the three computes the same.
    """
    gpt = arch.norm == "layer" and arch.feed_forward == "gelu"
    if gpt and arch.K == arch.H and arch.H * arch.D == arch.C:
        return "gpt2" if arch.rotary is None else "gpt_neox"
    if arch.norm == "rms" and arch.feed_forward == "swiglu" and arch.rotary is not None:
        return "llama"
    raise ValueError(f"no architecture that others read has norm {arch.norm!r}, feed-forward "
                     f"{arch.feed_forward!r}, rotary {arch.rotary} and {arch.K} of {arch.H} heads "
                     f"of {arch.D} for keys in {arch.C} channels; GPT-2, GPT-NeoX and Llama are "
                     "written")


def places(form, arch):
    """[(our name, [their names], kind)], every array that there can be; kind: "table", "gain",
    "bias", "w" or "b"."""
    found = [("embed", [form.embed + ".weight"], "table"),
             ("head", [form.head + ".weight"], "w"),
             ("norm.gain", [form.norm + ".weight"], "gain"),
             ("norm.bias", [form.norm + ".bias"], "bias")]
    if form.positions:
        found.append(("positions", [form.positions + ".weight"], "table"))
    for i in range(arch.L):
        for part, theirs in form.parts.items():
            for kind in ("gain", "bias") if "norm" in part else ("w", "b"):
                end = ".weight" if kind in ("gain", "w") else ".bias"
                found.append((f"blocks.{i}.{part}.{kind}",
                              [form.block.format(i) + name + end for name in theirs], kind))
    return found


def cuts(arch):
    """Where the keys and the values begin among the outputs of qkv."""
    return [arch.H * arch.D, (arch.H + arch.K) * arch.D]


def rename(form, arch, weights):
    """{our name: array} -> {their name: array}, for what `check_weights` let through.

    A GPT without biases gets zeros, since others ask for them; a head that must not be missing is
    the embedding once more. Raises ValueError for a bias in a Llama, where their form has none.
    """
    gpt, outputs = arch.norm == "layer", shapes_of_biases(arch)
    known, found = {name for name, _, _ in places(form, arch)}, {}
    if arch.norm == "rms":
        known -= {name for name, _, kind in places(form, arch) if kind in ("b", "bias")}
    if extra := sorted(weights.keys() - known):
        raise ValueError(f"{extra[0]} has no place in this form: a Llama as others write it has "
                         "no biases")
    for name, theirs, kind in places(form, arch):
        array = weights.get(name)
        if array is None and kind in ("b", "bias") and gpt:
            array = np.zeros(outputs[name.split(".")[-2]], np.float32)
        if array is None and name == "head" and not form.tied:
            array = weights["embed"].T
        if array is None:
            continue
        if kind == "w":                          # outputs first, here
            array = array.T
        if ".qkv." in name:
            parts = array[form.order(arch)]
            parts = np.split(parts, cuts(arch)) if len(theirs) == 3 else [parts]
        else:
            parts = [array]
        for their, part in zip(theirs, parts):
            inputs_first = kind == "w" and form.inputs_first and name != "head"
            found[their] = np.ascontiguousarray(part.T if inputs_first else part)
    return found


def shapes_of_biases(arch):
    """{part: how many numbers its bias has}."""
    return {"norm": arch.C, "norm1": arch.C, "norm2": arch.C, "project": arch.C, "down": arch.C,
            "qkv": (arch.H + 2 * arch.K) * arch.D, "up": arch.F, "gate": arch.F}


def restore(form, arch, arrays):
    """{their name: array} -> {our name: array}: what `rename` did, undone.

    A head that equals the embedding is left out. Raises ValueError at an array of theirs that
    none of ours is made of; whether all are there is for `check_weights` to say.
    """
    weights, left = {}, set(arrays)
    for name, theirs, kind in places(form, arch):
        if not left.issuperset(theirs):
            continue
        left -= set(theirs)
        parts = [np.asarray(arrays[their]) for their in theirs]
        if kind == "w" and form.inputs_first and name != "head":
            parts = [part.T for part in parts]
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if ".qkv." in name:
            order = form.order(arch)
            if len(array) != len(order):
                raise ValueError(f"{theirs[0]} has {len(array)} outputs; {len(order)} are wanted")
            array = array[np.argsort(order)]
        weights[name] = array.T if kind == "w" else array
    if left:
        raise ValueError(f"the file holds {min(left)!r}, which none of our arrays is made of")
    both = "head" in weights and "embed" in weights
    if both and np.array_equal(weights["head"].T, weights["embed"]):
        del weights["head"]
    return weights
