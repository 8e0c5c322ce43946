"""Day 64 · GGUF written by hand: one file that llama.cpp and day 52's reader open.

Unlike a folder for transformers, the file holds everything: the shape, the vocabulary, the chat
template, and the weights as F32, F16 or Q8_0, 32 weights to a scale. Norms, biases and learned
positions stay F32: they are small, and llama.cpp adds them as they are. A matrix whose rows are
not a multiple of 32 long is written as F16.
Left out: types of less than 8 bits (day 45 rounds to 4), and splitting rules without a name there.
Sources: ggml, docs/gguf.md, "File Structure" and "Standardized key-value pairs"; ggml-quants.c,
`quantize_row_q8_0_ref`.
"""

import struct

import numpy as np

from llm.tokens.files.bpe import visible
from llm.weights.blocks import NAMES
from llm.weights.cursor import NUMBERS
from llm.weights.export import check_vocabulary, end_ids, to_half
from llm.weights.files import write_whole
from llm.weights.forms import IN_GGUF, family, rename

ALIGNMENT = 32
KINDS = {"F32": 0, "F16": 1, "Q8_0": 7}            # general.file_type
PRE = {"gpt2": "gpt-2", "smollm": "smollm", "qwen2": "qwen2"}
NORMAL, CONTROL, UNUSED = 1, 3, 5                  # tokenizer.ggml.token_type
NEVER = b"\xff"                                    # a byte that no UTF-8 text has
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def q8_0(rows):
    """(N, K) float32, K a multiple of 32 -> (N, K / 32 · 34) uint8: scale in float16, 32 bytes.

    d = max|w| / 127, q = w / d rounded, halves away from zero, as ggml does bit for bit. Raises
    ValueError on other K, and where a scale is beyond float16.
    """
    N, K = rows.shape
    if K % 32:
        raise ValueError(f"rows of {K} weights, shape {rows.shape}, are no whole blocks of 32")
    blocks = np.asarray(rows, np.float32).reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    q = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled).astype(np.int8)
    return np.concatenate([to_half("a block's scale", d).view(np.uint8), q.view(np.uint8)],
                          axis=1).reshape(N, -1)


def encode(name, array, kind):
    """(type in the file, bytes) of one tensor."""
    if kind == "F32" or array.ndim == 1 or name.startswith("position"):
        return "F32", np.ascontiguousarray(array, "<f4")
    if kind == "Q8_0" and array.shape[1] % 32 == 0:
        return "Q8_0", q8_0(array)
    return "F16", np.ascontiguousarray(to_half(name, array), "<f2")


def text(string):
    """A string: its length in bytes, then UTF-8."""
    data = string.encode()
    return struct.pack("<Q", len(data)) + data


def value(content):
    """(type, bytes) of a metadata value: bool, int, float, str, or a list of int, or of str."""
    if isinstance(content, bool):
        return BOOL, struct.pack("<?", content)
    if isinstance(content, int):
        return U32, struct.pack("<I", content)
    if isinstance(content, float):
        return F32, struct.pack("<f", content)
    if isinstance(content, str):
        return STRING, text(content)
    if all(isinstance(item, str) for item in content):
        kind, data = STRING, b"".join(map(text, content))
    else:
        kind, data = I32, np.asarray(content, NUMBERS[I32]).tobytes()
    return ARRAY, struct.pack("<IQ", kind, len(content)) + data


def write_gguf(path, metadata, tensors):
    """metadata {key: value}; tensors {name: (shape, outputs first, type, bytes)}; all or nothing.

    The table of tensors comes before their bytes, so places are counted first: each tensor begins
    at a multiple of 32 bytes after the end of the tables, which are filled up likewise.
    """
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))]
    for key, content in metadata.items():
        kind, data = value(content)
        head += [text(key), struct.pack("<I", kind), data]
    at, body = 0, []
    for name, (shape, kind, data) in tensors.items():
        head += [text(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1],
                                         NAMES[kind].number, at)]
        body += [data.reshape(-1).view(np.uint8), bytes(-data.nbytes % ALIGNMENT)]
        at += data.nbytes + -data.nbytes % ALIGNMENT
    head = b"".join(head)
    write_whole(path, [head + bytes(-len(head) % ALIGNMENT), *body])


def shape_keys(arch, name):
    """The numbers of the architecture, under the file's names."""
    keys = {"context_length": arch.T, "embedding_length": arch.C, "block_count": arch.L,
            "feed_forward_length": arch.F, "attention.head_count": arch.H}
    if name != "gpt2":
        keys |= {"rope.dimension_count": arch.D, "rope.freq_base": float(arch.rotary)}
    if name == "gpt_neox":
        keys |= {"use_parallel_residual": False}
    if name == "llama":
        keys |= {"attention.head_count_kv": arch.K, "attention.key_length": arch.D,
                 "attention.value_length": arch.D, "attention.layer_norm_rms_epsilon": arch.eps}
    else:
        keys |= {"attention.layer_norm_epsilon": arch.eps}
    there = name.replace("_", "")                                  # llama.cpp says gptneox
    return {"general.architecture": there, **{f"{there}.{key}": v for key, v in keys.items()}}


def vocabulary_keys(arch, tokenizer, template=None):
    """The vocabulary. A text of ours begins with no id of its own.

    A file without an end makes llama.cpp take id 11 for one, a common piece. A vocabulary without
    a special token for it names the byte 0xFF, which no UTF-8 text has.
    """
    check_vocabulary(arch, tokenizer)
    if tokenizer.rule not in PRE:
        raise ValueError(f"the splitting rule {tokenizer.rule!r} has no name in a GGUF file; "
                         f"{', '.join(PRE)} have")
    tokens, kinds = [], []
    specials = {i: name for name, i in tokenizer.specials.items()}
    for i in range(arch.V):
        piece = tokenizer.pieces.get(i)
        kinds.append(NORMAL if piece else CONTROL if i in specials else UNUSED)
        tokens.append(visible(piece) if piece else specials.get(i, f"[unused {i}]"))
    if len(set(tokens)) < len(tokens):
        both = set(tokenizer.specials) & {visible(p) for p in tokenizer.pieces.values()}
        raise ValueError(f"the special token {both.pop()!r} is written like an ordinary piece; "
                         "give it another name")
    ends = end_ids(tokenizer) or [i for i, piece in tokenizer.pieces.items() if piece == NEVER]
    names = zip(("eos", "eot"), [ends[-1], ends[0]]) if ends else ()
    merges = [f"{tokens[a]} {tokens[b]}" for a, b, _ in tokenizer.merges.tolist()]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": PRE[tokenizer.rule],
            "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": merges, "tokenizer.ggml.add_bos_token": False,
            **{f"tokenizer.ggml.{name}_token_id": i for name, i in names},
            **({"tokenizer.chat_template": template} if template else {})}


def export_gguf(path, arch, weights, tokenizer, template=None, kind="F32", name="model"):
    """Write one file. Arguments and errors as `export_hf`'s; kind: F32, F16 or Q8_0."""
    if kind not in KINDS:
        raise ValueError(f"weights are written as {', '.join(KINDS)}, not {kind!r}")
    their = family(arch)
    metadata = {**shape_keys(arch, their), "general.name": name,
                "general.file_type": KINDS[kind], "general.alignment": ALIGNMENT,
                "general.quantization_version": 2, **vocabulary_keys(arch, tokenizer, template)}
    tensors = {}
    for key, array in rename(IN_GGUF[their], arch, weights).items():
        tensors[key] = (array.shape, *encode(key, array, kind))
    write_gguf(path, metadata, tensors)
