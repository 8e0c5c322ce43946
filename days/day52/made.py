"""Day 52 · Small GGUF files for tests and exercises: written by hand, from what the format says."""

import contextlib
import struct
import tempfile
from pathlib import Path

import numpy as np

from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import visible
from llm.weights.blocks import NAMES

FORMS = {"u8": (0, "B"), "i8": (1, "b"), "u16": (2, "H"), "i16": (3, "h"), "u32": (4, "I"),
         "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "?"), "u64": (10, "Q"), "i64": (11, "q"),
         "f64": (12, "d")}


def text(string):
    """A string as GGUF writes it: its length in bytes, then UTF-8."""
    data = string.encode() if isinstance(string, str) else string
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    """(number of the type, bytes) of one metadata value; kind "[u32]" is an array of u32."""
    if kind.startswith("["):
        inner = kind[1:-1]
        items = [value(inner, item) for item in content]
        number = 9 if inner[0] == "[" else 8 if inner == "str" else FORMS[inner][0]
        return 9, struct.pack("<IQ", number, len(items)) + b"".join(data for _, data in items)
    if kind == "str":
        return 8, text(content)
    number, form = FORMS[kind]
    return number, struct.pack("<" + form, content)


def gguf_bytes(metadata, tensors, version=3, alignment=32):
    """A whole file. metadata {key: (kind, content)}; tensors {name: (type name, shape, bytes)},
    shape outputs first."""
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))
    for key, (kind, content) in metadata.items():
        number, data = value(kind, content)
        head += text(key) + struct.pack("<I", number) + data
    body = b""
    for name, (kind, shape, data) in tensors.items():
        body += bytes(-len(body) % alignment)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1],
                                         NAMES[kind].number, len(body))
        body += data
    return head + bytes(-len(head) % alignment) + body


def floats(array):
    """A tensor of float32 for `gguf_bytes`."""
    return "F32", array.shape, np.ascontiguousarray(array, dtype="<f4").tobytes()


def q8_0(array):
    """A tensor in blocks of 32 signed bytes: scale = largest of the block / 127."""
    groups = np.ascontiguousarray(array, dtype=np.float32).reshape(-1, 32)
    scale = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype(np.float16)
    q = np.rint(groups / np.maximum(scale.astype(np.float32), 1e-12)).clip(-127, 127)
    blocks = np.concatenate([scale.view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=1)
    return "Q8_0", array.shape, blocks.tobytes()


def q4_1(array):
    """A tensor in blocks of 32 nibbles, w ≈ scale·q + minimum, as day 45 rounds."""
    groups = np.ascontiguousarray(array, dtype=np.float32).reshape(-1, 32)
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    scale, low = ((high - low) / 15).astype(np.float16), low.astype(np.float16)
    q = np.rint((groups - low) / np.maximum(scale.astype(np.float32), 1e-12))
    q = q.clip(0, 15).astype(np.uint8)
    packed = q[:, :16] | q[:, 16:] << 4
    blocks = np.concatenate([scale.view(np.uint8), low.view(np.uint8), packed], axis=1)
    return "Q4_1", array.shape, blocks.tobytes()


def interleaved(rows, heads):
    """Rows (heads·D, …) in half-split order -> the order of a file, where neighbours are a pair."""
    D, out = len(rows) // heads, np.empty_like(rows)
    for h in range(heads):
        for i in range(D // 2):
            out[h * D + 2 * i] = rows[h * D + i]
            out[h * D + 2 * i + 1] = rows[h * D + D // 2 + i]
    return out


def vocabulary(merges=((116, 104), (256, 101), (32, 257)), specials=("<|im_start|>", "<|im_end|>"),
               rule="smollm"):
    """Metadata of a byte-level vocabulary: 256 bytes, merges ("th", "the", " the"), specials."""
    words = FastBPE.from_merges(merges, rule)
    names = [visible(words.pieces[i]) for i in range(len(words.pieces))]
    lines = [f"{names[a]} {names[b]}" for a, b, _ in words.merges.tolist()]
    kinds = [1] * len(names) + [3] * len(specials)
    return {"tokenizer.ggml.model": ("str", "gpt2"), "tokenizer.ggml.pre": ("str", rule),
            "tokenizer.ggml.tokens": ("[str]", names + list(specials)),
            "tokenizer.ggml.token_type": ("[i32]", kinds),
            "tokenizer.ggml.merges": ("[str]", lines),
            "tokenizer.ggml.eos_token_id": ("u32", len(kinds) - 1)}


def small_llama(rng, C=32, L=2, H=2, K=1, F=64, T=64, write=floats, tied=True, biases=False):
    """(metadata, tensors, weights): a Llama for `gguf_bytes`, and its weights as we name them.

    write: how matrices are stored, `floats`, `q8_0` or `q4_1`; the weights are before rounding.
    """
    words = vocabulary()
    V, D = len(words["tokenizer.ggml.tokens"][1]), C // H
    say = {"context_length": ("u32", T), "embedding_length": ("u32", C), "block_count": ("u32", L),
           "feed_forward_length": ("u64", F), "attention.head_count": ("u32", H),
           "attention.head_count_kv": ("u32", K), "rope.freq_base": ("f32", 10000.0),
           "attention.layer_norm_rms_epsilon": ("f32", 2.0**-17),
           "rope.dimension_count": ("u32", D)}
    metadata = {"general.architecture": ("str", "llama"),
                **{f"llama.{key}": pair for key, pair in say.items()}, **words}
    draw = lambda *shape: rng.normal(scale=0.3, size=shape).astype(np.float32)
    weights, tensors = {"embed": draw(V, C), "norm.gain": 1 + draw(C)}, {}
    tensors["token_embd.weight"] = write(weights["embed"])
    tensors["output_norm.weight"] = floats(weights["norm.gain"])
    if not tied:
        weights["head"] = draw(C, V)
        tensors["output.weight"] = write(weights["head"].T)
    for i in range(L):
        q, k, v = draw(H * D, C), draw(K * D, C), draw(K * D, C)
        rows = {"attn_q": interleaved(q, H), "attn_k": interleaved(k, K), "attn_v": v,
                "attn_output": draw(C, H * D), "ffn_gate": draw(F, C), "ffn_up": draw(F, C),
                "ffn_down": draw(C, F)}
        tensors |= {f"blk.{i}.{name}.weight": write(w) for name, w in rows.items()}
        weights[f"blocks.{i}.qkv.w"] = np.concatenate([q, k, v]).T
        for ours, theirs in (("project", "attn_output"), ("gate", "ffn_gate"), ("up", "ffn_up"),
                             ("down", "ffn_down")):
            weights[f"blocks.{i}.{ours}.w"] = rows[theirs].T
        for ours, theirs in (("norm1", "attn_norm"), ("norm2", "ffn_norm")):
            weights[f"blocks.{i}.{ours}.gain"] = gain = 1 + draw(C)
            tensors[f"blk.{i}.{theirs}.weight"] = floats(gain)
        if biases:
            bq, bk, bv = draw(H * D), draw(K * D), draw(K * D)
            weights[f"blocks.{i}.qkv.b"] = np.concatenate([bq, bk, bv])
            tensors |= {f"blk.{i}.attn_q.bias": floats(interleaved(bq, H)),
                        f"blk.{i}.attn_k.bias": floats(interleaved(bk, K)),
                        f"blk.{i}.attn_v.bias": floats(bv)}
    return metadata, tensors, weights


CHAT = {"general.name": ("str", "made"), "tokenizer.chat_template": ("str", (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"))}


@contextlib.contextmanager
def source(fast, gguf):
    """The path of the file to read: the reader's, none for SmolLM2, or a made one."""
    if gguf or not fast:
        yield gguf
        return
    with tempfile.TemporaryDirectory() as folder:
        metadata, tensors, _ = small_llama(np.random.default_rng(0), T=256, write=q4_1)
        path = Path(folder, "made.gguf")
        path.write_bytes(gguf_bytes(metadata | CHAT, tensors))
        yield path
