"""Day 52 · GGUF by hand: blocks, files honest and hostile; the real model where it can be had."""

import struct
import time
import tracemalloc

import numpy as np
import pytest

from days.day52.made import floats, gguf_bytes, q4_1, q8_0, text
from llm.weights.blocks import NAMES, TYPES, dequantise
from llm.weights.cursor import GGUFError
from llm.weights.gguf import GGUF


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def opened(tmp_path, data):
    path = tmp_path / "made.gguf"
    path.write_bytes(data)
    return GGUF(path)


# --- blocks -----------------------------------------------------------------------------------

def test_the_block_by_hand():
    d, m = np.array([0.5, -2], dtype=np.float16).view(np.uint8).reshape(2, 2)
    packed = np.zeros(16, dtype=np.uint8)
    packed[0], packed[15] = 0x41, 0xF0          # weights 0 and 16 are 1 and 4; 15 and 31: 0 and 15
    block = np.concatenate([d, m, packed])[None]
    w = dequantise(block, "Q4_1")[0]
    assert w[[0, 15, 16, 31]].tolist() == [-1.5, -2.0, 0.0, 5.5] and w[1] == -2
    assert block[0, :6].tolist() == [0, 0x38, 0, 0xC0, 0x41, 0] and NAMES["Q4_1"].bits == 5
    assert (dequantise(np.concatenate([d, packed])[None], "Q4_0")[0][[0, 16, 31]]
            == [-3.5, -2, 3.5]).all()


def one_by_one(kind, b):
    """The weights of one block, in Python numbers, straight from the description of the format."""
    half = lambda at: float(np.array(b[at:at + 2], dtype=np.uint8).view(np.float16)[0])
    signed = lambda x: x - 256 if x > 127 else x
    nibble = lambda at, j: b[at + j % 16] >> 4 * (j // 16) & 15
    if kind == "Q8_0":
        return [half(0) * signed(b[2 + j]) for j in range(32)]
    if kind in ("Q4_0", "Q4_1"):
        return [half(0) * (nibble(2, j) - 8) if kind == "Q4_0"
                else half(0) * nibble(4, j) + half(2) for j in range(32)]
    if kind in ("Q5_0", "Q5_1"):
        at = 2 if kind == "Q5_0" else 4
        bits = int.from_bytes(bytes(b[at:at + 4]), "little")
        q = [nibble(at + 4, j) + 16 * (bits >> j & 1) for j in range(32)]
        return [half(0) * (x - 16) if kind == "Q5_0" else half(0) * x + half(2) for x in q]
    if kind == "Q6_K":
        found = []
        for j in range(256):
            part, run, i = j // 128, j % 128 // 32, j % 32
            low = b[64 * part + 32 * (run % 2) + i] >> 4 * (run // 2) & 15
            high = b[128 + 32 * part + i] >> 2 * run & 3
            found.append(half(208) * signed(b[192 + j // 16]) * (low + 16 * high - 32))
        return found
    s, found = b[4:16], []
    for j in range(256):
        run, i = j // 32, j % 32
        if run < 4:
            scale, minimum = s[run] & 63, s[run + 4] & 63
        else:
            scale = (s[run + 4] & 15) + 16 * (s[run - 4] >> 6)
            minimum = (s[run + 4] >> 4) + 16 * (s[run] >> 6)
        at = 16 if kind == "Q4_K" else 48
        q = b[at + 32 * (run // 2) + i] >> 4 * (run % 2) & 15
        q += 16 * (b[16 + i] >> run & 1) if kind == "Q5_K" else 0
        found.append(half(0) * scale * q - half(2) * minimum)
    return found


@pytest.mark.parametrize("kind", [k for k in NAMES if k[0] == "Q"])
def test_every_block_type_equals_its_description_weight_by_weight(rng, kind):
    type_ = NAMES[kind]
    raw = rng.integers(0, 256, size=(5, 3 * type_.bytes), dtype=np.uint8)
    blocks = raw.reshape(-1, type_.bytes)
    halves = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
    for at in halves.get(kind, (0,)):            # finite scales
        blocks[:, at:at + 2] = rng.normal(size=(15, 1)).astype(np.float16).view(np.uint8)
    found = dequantise(raw, kind)
    assert found.shape == (5, 3 * type_.weights) and found.dtype == np.float32
    expected = [one_by_one(kind, block.tolist()) for block in blocks]
    np.testing.assert_allclose(found.reshape(15, -1), expected, rtol=1e-5, atol=1e-5)


def test_floats_of_every_width(rng):
    x = np.array([[1.0, -2.5, 0.0, 3e-5, 65504.0]], dtype=np.float32)
    assert (dequantise(x.view(np.uint8), "F32") == x).all()
    assert (dequantise(x.astype(np.float16).view(np.uint8), "F16") == x.astype(np.float16)).all()
    top = (x.view(np.uint32) >> 16).astype(np.uint16)
    found = dequantise(top.view(np.uint8), "BF16")
    assert found[0, :3].tolist() == [1.0, -2.5, 0.0] and (np.abs(found) <= np.abs(x)).all()
    assert (found.view(np.uint32) == (x.view(np.uint32) & 0xFFFF0000)).all()


def test_rows_are_dequantised_in_parts_as_at_once(rng, monkeypatch):
    data = rng.integers(0, 120, size=(9, 68), dtype=np.uint8)
    whole = dequantise(data, "Q8_0")
    monkeypatch.setattr("llm.weights.blocks.ROWS_AT_ONCE", 130)
    assert (dequantise(data, "Q8_0") == whole).all()
    with pytest.raises(ValueError, match=r"rows of 67 bytes, shape \(9, 67\).*34"):
        dequantise(data[:, :67], "Q8_0")


def test_the_types_have_the_published_numbers_and_sizes():
    assert {k.name: (k.number, k.weights, k.bytes) for k in TYPES.values()} == {
        "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
        "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
        "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "BF16": (30, 1, 2)}


# --- files ------------------------------------------------------------------------------------

EVERY = {"a.u8": ("u8", 250), "a.i8": ("i8", -3), "a.u16": ("u16", 60000), "a.i16": ("i16", -9),
         "a.u32": ("u32", 4_000_000_000), "a.i32": ("i32", -5), "a.f32": ("f32", 0.5),
         "a.yes": ("bool", True), "a.no": ("bool", False), "a.str": ("str", "naïve\n"),
         "a.u64": ("u64", 2**63), "a.i64": ("i64", -2**62), "a.f64": ("f64", 0.1),
         "a.empty": ("str", ""), "b.u16": ("[u16]", [1, 2, 60000]), "b.bool": ("[bool]", [1, 0]),
         "b.f64": ("[f64]", [0.1, -2.0]), "b.str": ("[str]", ["", "Ġthe", "é"]),
         "b.none": ("[str]", []), "b.nested": ("[[i32]]", [[1, -2], [], [3]]),
         "b.deep": ("[[[str]]]", [[["x"]], []])}


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_type_comes_back(tmp_path, version):
    found = opened(tmp_path, gguf_bytes(EVERY, {}, version))
    assert found.version == version and list(found.metadata) == list(EVERY) and not found.tensors
    for key, (kind, wanted) in EVERY.items():
        value = found.metadata[key]
        if kind == "[[i32]]":
            value = [part.tolist() for part in value]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == wanted, key
    assert type(found.metadata["a.yes"]) is bool and type(found.metadata["a.u64"]) is int
    assert found.metadata["b.f64"].dtype == np.float64


@pytest.mark.parametrize("alignment", [None, 8, 32, 64, 24])
def test_tensors_come_back_for_any_alignment(tmp_path, rng, alignment):
    a, b = rng.normal(size=(3, 32)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    c = rng.normal(size=(2, 3, 64)).astype(np.float32)
    metadata = {} if alignment is None else {"general.alignment": ("u32", alignment)}
    found = opened(tmp_path, gguf_bytes(metadata, {"a": q8_0(a), "b": floats(b), "c": q4_1(c),
                                                   "d": floats(a)}, 3, alignment or 32))
    assert list(found.tensors) == ["a", "b", "c", "d"]
    assert (found.array("b") == b).all() and (found.array("d") == a).all()
    assert found.array("a") == pytest.approx(a, abs=float(np.abs(a).max()) / 200)
    assert found.array("c").shape == c.shape
    assert found.array("c") == pytest.approx(c, abs=float(np.ptp(c)) / 28)
    assert found.raw("c").shape == (6, 40) and not found.raw("c").flags.writeable
    assert found.tensors["c"].size == 240 and found.tensors["c"].offset % (alignment or 32) == 0


def test_the_order_in_the_file_need_not_be_that_of_the_table(tmp_path):
    data = gguf_bytes({}, {"a": floats(np.arange(8)), "b": floats(np.arange(8) + 1)})
    for name, place in (("a", 32), ("b", 0)):
        at = data.index(text(name)) + len(text(name)) + 4 + 8 + 4
        data = data[:at] + struct.pack("<Q", place) + data[at + 8:]
    found = opened(tmp_path, data)
    assert list(found.tensors) == ["a", "b"] and found.array("a")[0] == 1


def hostile():
    """{what: bytes} of files that must be refused; each is a small change of a good one."""
    good = gguf_bytes({"k": ("u32", 5)}, {"w": floats(np.zeros((2, 4))), "v": floats(np.zeros(8))})
    head = lambda tensors=0, pairs=0, version=3: struct.pack("<4sIQQ", b"GGUF", version, tensors,
                                                             pairs)
    pair = lambda number, data: head(0, 1) + text("k") + struct.pack("<I", number) + data
    row = lambda name, shape, kind, place, rest=b"": (
        head(1) + text(name) + struct.pack("<I", len(shape)) + struct.pack(
            f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, place) + bytes(200) + rest)
    nested = struct.pack("<IQ", 9, 1) * 400 + struct.pack("<IQ", 0, 0)
    wide = struct.pack("<IQ", 9, 5000) + struct.pack("<IQ", 0, 0) * 5000
    return {
        "empty": (b"", "it is empty"), "three bytes": (b"GGU", "starts with b'GGU'"),
        "another": (b"PK\3\4" + bytes(99), "starts with b'PK"),
        "version 1": (head(version=1) + bytes(9), "version 1, and 2 and 3"),
        "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian"),
        "tensor count": (head(2**64 - 1) + bytes(99), "is cut short or damaged"),
        "pair count": (head(0, 2**63) + bytes(99), "is cut short or damaged"),
        "many pairs": (head(0, 70000) + bytes(13 * 70000), "more than any real file"),
        "many tensors": (head(70000) + bytes(24 * 70000), "more than any real file"),
        "key length": (head(0, 1) + struct.pack("<Q", 2**40) + bytes(99), "65,535 are allowed"),
        "key twice": (head(0, 2) + 2 * (text("k") + struct.pack("<IB", 0, 1)) + bytes(9), "twice"),
        "key not UTF-8": (head(0, 1) + text(b"\xff") + bytes(9), "not UTF-8"),
        "value type": (pair(13, bytes(9)), "value type 13"),
        "string length": (pair(8, struct.pack("<Q", 2**62) + bytes(9)), "cut short or damaged"),
        "neither 0 nor 1": (pair(7, b"\2"), "neither 0 nor 1"),
        "array type": (pair(9, struct.pack("<IQ", 77, 1) + bytes(9)), "array of type 77"),
        "array count": (pair(9, struct.pack("<IQ", 4, 2**62) + bytes(9)), "cut short or damaged"),
        "string count": (pair(9, struct.pack("<IQ", 8, 2**61) + bytes(9)), "cut short or damaged"),
        "many strings": (pair(9, struct.pack("<IQ", 8, 2**20 + 1) + bytes(8 * 2**20 + 8)),
                         "than any real file"),
        "deep": (pair(9, nested), "5 levels deep"), "wide": (pair(9, wide), "than any real file"),
        "alignment": (gguf_bytes({"general.alignment": ("u32", 12)}, {}), "12, not a multiple"),
        "no alignment": (gguf_bytes({"general.alignment": ("u32", 0)}, {}), "0, not a multiple"),
        "word alignment": (gguf_bytes({"general.alignment": ("str", "x\n")}, {}), "not a multiple"),
        "huge alignment": (gguf_bytes({"general.alignment": ("u64", 2**63)},
                                      {"w": floats(np.zeros(8))}), "of a file of"),
        "name length": (row("x" * 65, (8,), 0, 0), "65 bytes, where 64"),
        "no dimensions": (row("w", (), 0, 0), "0 dimensions"),
        "five": (row("w", (1,) * 5, 0, 0), "5 dimensions"),
        "dimensions": (head(1) + text("w") + struct.pack("<I", 2**32 - 1) + bytes(99),
                       "4,294,967,295 dimensions"),
        "zero": (row("w", (0, 8), 0, 0), "positive multiple of 1"),
        "no rows": (row("w", (8, 0), 0, 0), "positive multiple of 1"),
        "not whole": (row("w", (40,), 8, 0), "positive multiple of 32"),
        "type": (row("w", (8,), 4, 0), "type 4, which is not read"),
        "IQ": (row("w", (256,), 16, 0), "type 16, which is not read"),
        "too large": (row("w", (2**40, 2**40), 0, 0), "of a file of"),
        "wraps": (row("w", (2**62, 4), 0, 0), "of a file of"),
        "place": (row("w", (8,), 0, 2**50), "of a file of"),
        "wraps the place": (row("w", (8,), 0, 2**64 - 32), "of a file of"),
        "crooked": (row("w", (8,), 0, 16), "multiple of 32"),
        "overlap": (good.replace(struct.pack("<IQ", 0, 32), struct.pack("<IQ", 0, 0)), "overlap"),
        "same name": (good.replace(text("v"), text("w")), "two tensors 'w'"),
    }


@pytest.mark.parametrize("what", hostile())
def test_hostile_files_are_refused_in_one_line_at_once_and_in_little_memory(tmp_path, what):
    data, reason = hostile()[what]
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(GGUFError, match="cannot read .*made.gguf: ") as error:
        opened(tmp_path, data)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert seconds < 1 and peak < 1 << 20, (seconds, peak)


def test_a_file_cut_anywhere_is_refused_whole_it_is_read(tmp_path, rng):
    tensors = {"a": q8_0(rng.normal(size=(4, 32))), "b": floats(rng.normal(size=(2, 8)))}
    data = gguf_bytes(EVERY, tensors)
    for n in range(len(data)):
        with pytest.raises(GGUFError):
            opened(tmp_path, data[:n])
    assert len(opened(tmp_path, data).tensors) == 2


def test_what_is_no_file_is_said_so(tmp_path):
    with pytest.raises(GGUFError, match="there is no file .*missing.gguf"):
        GGUF(tmp_path / "missing.gguf")
    with pytest.raises(GGUFError, match="is not a file; give the path"):
        GGUF(tmp_path)


def test_damage_by_chance_never_ends_in_another_error(tmp_path, rng):
    good = bytearray(gguf_bytes(EVERY, {"a": q8_0(rng.normal(size=(4, 32)))}))
    for _ in range(400):
        data = bytearray(good)
        for at in rng.integers(0, len(good) - 140, size=3):
            data[at] = rng.integers(256)
        try:
            opened(tmp_path, bytes(data))
        except GGUFError as error:
            assert "\n" not in str(error)
