"""Day 52 · Small GGUF files for tests and exercises: written by hand, from what the format says."""

import struct

import numpy as np

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
