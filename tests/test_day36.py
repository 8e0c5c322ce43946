"""Day 36 · Checkpoints: the same run goes on, and nothing breaks the file."""

import errno
import itertools
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

from days.day36 import crash, killing, power, study, writing
from days.day36.run import measure
from days.harness import ROOT
from llm.data.batches import random_windows
from llm.models.gpt import GPT, GPTConfig
from llm.tensors.roofline import Blas
from llm.train import keeper
from llm.train.adam import AdamW, RMSProp
from llm.train.checkpoint import (
    CheckpointError,
    Progress,
    continued,
    load_checkpoint,
    opened,
    save_checkpoint,
)
from llm.train.generators import generator_state, restore_generator
from llm.train.keeper import Checkpoints
from llm.train.loop import fit
from llm.train.muon import Muon
from llm.train.schedule import WarmupCosine
from llm.train.sgd import SGD
from llm.train.snapshot import load_snapshot, save_snapshot
from llm.weights import files
from llm.weights.bfloat16 import from_bfloat16, to_bfloat16
from llm.weights.files import write_whole
from llm.weights.header import MOST_HEADER, SIZES, SafetensorsError, parse_header
from llm.weights.safetensors import TYPES, SafeTensors, pieces, read_safetensors, write_safetensors

GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def written(arrays, metadata=None, bf16=()):
    return b"".join(bytes(piece) for piece in pieces(arrays, metadata, bf16))


def raw(header, data=b"", length=None):
    """A file of this header (text, bytes or an object) and these bytes."""
    if not isinstance(header, (str, bytes)):
        header = json.dumps(header)
    header = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(2,), start=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def refused(tmp_path, content, reason):
    """Opening it fails with one line that has the reason and the path, and takes little memory."""
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError, match=reason) as told:
            SafeTensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(told.value) and len(str(told.value)) < 500
    assert str(path) in str(told.value)
    assert peak < 200_000 + 4 * len(content)


# by hand


def test_the_file_by_hand():
    """The example of the note, which is the one in the format's own tests."""
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    header = b'{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}'
    assert len(header) == 64
    assert written({"attn.0": x}) == (b"\x40" + bytes(7) + header + bytes(4) + b"\0\0\x80\x3f"
                                      b"\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40")
    assert written({}) == b"\x08" + bytes(7) + b"{}      "
    assert written({}, {"framework": "pt"}) == (
        b"\x28" + bytes(7) + b'{"__metadata__":{"framework":"pt"}}     ')
    longer = written({"attn0": x[None]})                  # 65 characters, so 7 spaces
    assert longer[0] == 72 and longer[8:80].endswith(b"[0,24]}}       ")


def test_bfloat16_by_hand():
    x = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 3 * 2**-8, 0, -0.0])
    assert [hex(b) for b in to_bfloat16(x)] == ["0x3f80", "0x3f80", "0x3f82", "0x3f81", "0xbf82",
                                                "0x0", "0x8000"]
    assert from_bfloat16(to_bfloat16(x)).tolist() == [1, 1, 1.015625, 1.0078125, -1.015625, 0, -0.0]


def test_the_update_without_step_counts_by_hand():
    """m and v are kept and t begins again: the k-th update is this share of the right one."""
    share = lambda k: math.sqrt(1 - 0.99**k) / (1 - 0.9**k)
    assert [round(share(k), 3) for k in (1, 2, 10, 100)] == [1.0, 0.742, 0.475, 0.796]
    x = parameter_like(1.0)
    right, wrong = (AdamW({"x": x}, betas=(0.9, 0.99), decay=0, eps=0) for _ in range(2))
    for optimizer, t in ((right, 10_000), (wrong, 0)):
        x.data[...], x.grad = 1.0, np.array([1.0])
        optimizer.load_state_dict({"t": np.array([t]), "m.x": np.array([1.0]),
                                   "v.x": np.array([1.0])})
        optimizer.step(0.1)
        assert x.data == pytest.approx(1 - 0.1)
        x.data[...] = 1.0
        optimizer.step(0.1)
        assert 1 - x.data == pytest.approx(0.1 if t else 0.1 * share(2))


def test_the_schedule_and_the_interval_by_hand():
    schedule = WarmupCosine(1.0, warmup=10)
    rates = continued(schedule, Progress(80, 8.0), 20.0)
    assert rates(81, 92) == schedule(81, 180) == pytest.approx(0.63, abs=0.005)
    assert schedule(81, 92) == pytest.approx(0.04, abs=0.005)
    C, M = 0.02, 86_400
    taus = np.arange(1, 1000)
    assert taus[np.argmin(C / taus + taus / (2 * M))] == round(math.sqrt(2 * C * M)) == 59


def parameter_like(value):
    from llm.layers.module import parameter
    return parameter(np.array([value]))


# the format


def some_arrays(rng, count=6):
    for dtype in rng.permutation([t for t in TYPES if t != "BF16"] * 2)[:count]:
        shape = tuple(rng.integers(0, 4, size=rng.integers(0, 4)))
        values = rng.integers(-100, 100, size=shape)
        yield np.asarray(values > 0 if dtype == "BOOL" else values).astype(TYPES[dtype])


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_what_is_written_is_read_bit_for_bit(rng, tmp_path):
    for _ in range(40):
        arrays = {f"ä.{i}\n\"": a for i, a in enumerate(some_arrays(rng, rng.integers(0, 9)))}
        metadata = {"note": "ünï", "": "\\"} if rng.random() < 0.5 else {}
        write_safetensors(tmp_path / "a", arrays, metadata)
        file = SafeTensors(tmp_path / "a")
        assert file.metadata == metadata and file.keys() == arrays.keys()
        assert len(file) == len(arrays) and file.begin % 8 == 0
        for name, a in arrays.items():
            assert same(file[name], a) and not file[name].flags.writeable
            assert file[name].flags.aligned and file.entries[name].start % a.itemsize == 0
            assert file[name].size == 0 or np.shares_memory(file[name], np.frombuffer(
                file.memory, np.uint8))                               # a view, not a copy
        mine, about = read_safetensors(tmp_path / "a")
        assert about == metadata and mine.keys() == arrays.keys()
        assert all(same(mine[name], a) and mine[name].flags.writeable for name, a in arrays.items())


def test_all_types_and_special_numbers(rng, tmp_path):
    arrays = {}
    for name, form in TYPES.items():
        dtype = np.dtype(form)
        arrays[name] = (np.frombuffer(rng.bytes(16 * dtype.itemsize), dtype) if name != "BOOL" else
                        np.array([True, False]))
    arrays |= {"nan": np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45]), "scalar": np.float64(3)}
    del arrays["BF16"]
    write_safetensors(tmp_path / "a", arrays)
    file = SafeTensors(tmp_path / "a")
    assert all(same(file[name], np.asarray(a)) for name, a in arrays.items())
    assert file["scalar"].shape == ()
    assert {e.dtype for e in file.entries.values()} == set(SIZES) - {"BF16"}
    assert all(np.dtype(TYPES[name]).itemsize == size for name, size in SIZES.items())


def test_layout_in_memory_does_not_matter(tmp_path):
    a = np.arange(24, dtype=np.int32).reshape(4, 6)
    arrays = {"transposed": a.T, "every second": a[:, ::2], "backwards": a[::-1],
              "big endian": a.astype(">i4"), "long": a.astype(np.longlong)}
    write_safetensors(tmp_path / "a", arrays)
    for name, b in SafeTensors(tmp_path / "a").items():
        assert np.array_equal(b, arrays[name]) and b.dtype.isnative


def test_bfloat16_is_read_as_float32_and_rounded_to_nearest_even(rng, tmp_path):
    x = rng.standard_normal((50, 7)).astype(np.float32) * 10.0**rng.integers(-38, 38, (50, 1))
    x = x.astype(np.float32)
    write_safetensors(tmp_path / "a", {"x": x, "y": x}, bf16=["x"])
    file = SafeTensors(tmp_path / "a")
    assert file.entries["x"].dtype == "BF16" and same(file["y"], x)
    assert file["x"].dtype == np.float32 and file.bits("x").dtype == np.uint16
    assert same(file["x"], from_bfloat16(file.bits("x")))
    assert same(read_safetensors(tmp_path / "a")[0]["x"], file["x"])
    write_safetensors(tmp_path / "b", {"x": file["x"]}, bf16=["x"])
    assert same(SafeTensors(tmp_path / "b").bits("x"), file.bits("x"))        # rounding once


def test_bfloat16_against_the_definition(rng):
    """The two neighbours, in float64; the nearer one wins, the even one of equals."""
    x = np.frombuffer(rng.bytes(4 * 20_000), np.float32)
    x = np.concatenate([x[np.isfinite(x) & (np.abs(x) < 3e38)],
                        from_bfloat16(rng.integers(0x7f00, size=999).astype(np.uint16)) * 1.00390625
                        ]).astype(np.float32)
    down = x.view(np.uint32) >> 16
    low, high = (from_bfloat16((down + i).astype(np.uint16)).astype(float) for i in (0, 1))
    before, after = np.abs(x - low), np.abs(high - x)
    up = (after < before) | (after == before) & (down % 2 == 1)
    assert np.array_equal(to_bfloat16(x), down + up)


def test_bfloat16_edges():
    bits = np.arange(2**16, dtype=np.uint16)
    wide = from_bfloat16(bits)
    kept = to_bfloat16(wide)
    assert np.array_equal(kept[~np.isnan(wide)], bits[~np.isnan(wide)])
    assert np.isnan(from_bfloat16(kept[np.isnan(wide)])).all()
    odd = np.array([0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF], np.uint32).view(np.float32)
    found = from_bfloat16(to_bfloat16(odd))
    assert np.isnan(found[:2]).all() and found[2:].tolist() == [np.inf, -np.inf]
    assert to_bfloat16(np.float32(1.5)).shape == ()
    assert to_bfloat16(np.zeros((0, 2), "f4")).shape == (0, 2)
    assert to_bfloat16(np.float16([1.5, 65504])).tolist() == [0x3FC0, 0x4780]
    assert same(to_bfloat16(np.ones((4, 4), "f4").T[1:]), np.full((3, 4), 0x3F80, np.uint16))
    for bad in (np.zeros(2), np.zeros(2, np.int32)):
        with pytest.raises(ValueError, match="not from"):
            to_bfloat16(bad)
    with pytest.raises(ValueError, match="uint16, not int16"):
        from_bfloat16(np.zeros(2, np.int16))
    with pytest.raises(ValueError, match="uint16, not uint32"):
        from_bfloat16(np.zeros(2, np.uint32))


def test_what_the_format_cannot_hold_is_told_before_anything_is_written(tmp_path):
    x = np.zeros(2, np.float32)
    for arrays, metadata, bf16, reason in [
            ({"c": np.zeros(2, complex)}, None, (), "'c' has type complex128"),
            ({"o": np.array([None])}, None, (), "'o' has type object"),
            ({"s": np.array(["a"])}, None, (), "'s' has type <U1"),
            ({"d": np.zeros(1, "M8[s]")}, None, (), "'d' has type datetime64"),
            ({1: x}, None, (), "cannot be called 1"), ({"__metadata__": x}, None, (), "is taken"),
            ({"x": x}, {"step": 3}, (), "text to text"),
            ({"x": x}, {3: "step"}, (), "text to text"),
            ({"x": x}, None, ["y"], r"not among the arrays: \['y'\]"),
            ({"x": np.zeros(2)}, None, ["x"], "not from float64")]:
        with pytest.raises(ValueError, match=reason):
            write_safetensors(tmp_path / "a", arrays, metadata, bf16)
    assert list(tmp_path.iterdir()) == []


def test_a_header_beyond_the_limit_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("llm.weights.safetensors.MOST_HEADER", 64)
    write_safetensors(tmp_path / "a", {}, {"k": "x" * 39})                        # 64 bytes
    with pytest.raises(ValueError, match="72 bytes; readers allow 64"):
        write_safetensors(tmp_path / "a", {}, {"k": "x" * 40})


# hostile files


def test_an_old_or_odd_but_correct_file_is_read(tmp_path):
    """Any order in the header, spaces, an odd header length, empty tensors anywhere."""
    data = np.arange(3, dtype="<f4").tobytes()
    header = ('{ "b" : {"shape":[2], "data_offsets" : [ 4 , 12 ],\n"dtype":"F32"},"e":{"dtype":'
              '"F64","shape":[0,5],"data_offsets":[4,4]}, "a":{"dtype":"F32","shape":[],'
              '"data_offsets":[0,4]}\t}  \r\n')
    for more in ("", " "):                      # the data begins at an even place, and at an odd
        (tmp_path / "a").write_bytes(raw(header + more, data))
        file = SafeTensors(tmp_path / "a")
        assert list(file) == ["b", "e", "a"]
        assert file["b"].tolist() == [1, 2] and file["a"] == 0 and file["e"].shape == (0, 5)
        assert file["b"].flags.aligned and not file["b"].flags.writeable
        with pytest.raises(KeyError):
            file["c"]
    (tmp_path / "a").write_bytes(raw({}))
    assert dict(SafeTensors(tmp_path / "a")) == {}


ONE = entry()
HOSTILE = {
    "an empty file": (b"", "only 0 bytes"),
    "seven bytes": (b"\0" * 7, "only 7 bytes"),
    "a leading zero": (raw('{"a":{"shape":[02' + "]}}"), ", or ] should"),
    "no header": (b"\0" * 8, "{ should stand there, not the end"),
    "a length of 2⁶³": (raw("{}", length=2**63), "9,223,372,036,854,775,808 bytes"),
    "a length of 2⁶⁴ − 1": (raw("{}", length=2**64 - 1), "18,446,744,073,709,551,615 bytes"),
    "one byte more than there is": (raw("{}", length=3), "a header of 3 bytes in a file of 10"),
    "not UTF-8": (raw(b'{"\xff":1}'), "not UTF-8 text at byte 2"),
    "no object": (raw("[]"), "at character 0: {"),
    "a space first": (raw(" {}"), "at character 0: {"),
    "no end": (raw('{"a"'), ": should stand there, not the end"),
    "no comma": (raw('{"a":' + json.dumps(ONE) + '"b"'), ", or } should"),
    "an end too much": (raw("{}}"), "at character 2: the end"),
    "zeros behind the header": (raw("{}\0\0"), "the end should stand there"),
    "a comma too much": (raw('{"a":' + json.dumps(ONE) + ",}"), '" should stand there'),
    "a name cut off": (raw('{"a'), "a JSON string"),
    "half a surrogate pair": (raw('{"\\ud800":1}'), "a JSON string"),
    "a line feed in a name": (raw('{"\n":1}'), "a JSON string"),
    "deep nesting": (raw("[" * 100_000), "at character 0"),
    "deep nesting in an entry": (raw('{"a":' * 100_000), "the unknown key 'a'"),
    "deep nesting in a shape": (raw('{"a":{"shape":' + "[" * 100_000), "a whole number"),
    "deep nesting in the metadata": (raw('{"__metadata__":{"a":' + "{" * 100_000), '" should'),
    "the same name twice": (raw('{"a":%s,"a":%s}' % ((json.dumps(ONE),) * 2), bytes(8)),
                            "has 'a' twice"),
    "the same name in disguise": (raw(r'{"a":%s,"\u0061":%s}' % ((json.dumps(ONE),) * 2), bytes(8)),
                                  "has 'a' twice"),
    "a key twice": (raw('{"a":{"dtype":"F32","dtype":"I32"}}'), "has 'dtype' twice"),
    "metadata twice": (raw('{"__metadata__":{},"__metadata__":{}}'), "has '__metadata__' twice"),
    "a metadata key twice": (raw('{"__metadata__":{"a":"","a":""}}'), "has 'a' twice"),
    "metadata that is no text": (raw('{"__metadata__":{"a":1}}'), '" should stand there'),
    "an unknown key": (raw({"a": {**ONE, "strides": [4]}}, bytes(8)), "unknown key 'strides'"),
    "no dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "must have a dtype"),
    "no shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "must have"),
    "one offset": (raw({"a": {**ONE, "data_offsets": [8]}}, bytes(8)), "two data_offsets"),
    "three offsets": (raw({"a": {**ONE, "data_offsets": [0, 8, 8]}}, bytes(8)),
        "at most 2 numbers"),
    "an unknown type": (raw({"a": entry("F128")}, bytes(8)), "'a', F128 .*not read here, only F64"),
    "a type in small letters": (raw({"a": entry("f32")}, bytes(8)), "not read here"),
    "a type of a kilobyte": (raw({"a": entry("F" * 1000)}, bytes(8)), "F{9} "),
    "a negative size": (raw({"a": entry(shape=[-2])}, bytes(8)), "a whole number below"),
    "a size that is no whole number": (raw({"a": entry(shape=[2.0])}, bytes(8)), ", or ]"),
    "a size that is true": (raw({"a": entry(shape=[True])}, bytes(8)), "a whole number"),
    "a size of 2⁶³": (raw({"a": entry(shape=[2**63])}, bytes(8)), "a whole number"),
    "a number of a million digits": (raw('{"a":{"shape":[' + "9" * 10**6 + "]}}"),
        "a whole number below"),
    "a product beyond 64 bits": (raw({"a": entry(shape=[2**32, 2**32])}, bytes(8)), "that large"),
    "a product that overflows to 8": (raw({"a": entry(shape=[2**62 + 2])}, bytes(8)), "that large"),
    "an empty array beyond 64 bits": (raw({"a": entry(shape=[0, 2**60, 2**60], end=0)}),
        "that large"),
    "too many axes": (raw({"a": entry(shape=[1] * 65, end=4)}, bytes(4)), "at most 64 numbers"),
    "a shape too large": (raw({"a": entry(shape=[3])}, bytes(8)), "shape needs 12 bytes"),
    "a shape too small": (raw({"a": entry(shape=[1])}, bytes(8)), "shape needs 4 bytes"),
    "the end before the start": (raw({"a": entry(start=8, end=0)}, bytes(8)), "before the start"),
    "beyond the data": (raw({"a": entry()}, bytes(7)), "only 7 bytes of data"),
    "far beyond the data": (raw({"a": entry(shape=[2**40], end=2**42)}, bytes(8)), "only 8 bytes"),
    "bytes behind": (raw({"a": entry()}, bytes(9)), "1 bytes of data belong to no tensor"),
    "bytes and no tensor": (raw({}, bytes(1)), "1 bytes of data belong to no tensor"),
    "a hole in front": (raw({"a": entry(start=1, end=9)}, bytes(9)), "leaves a hole; byte 0"),
    "a hole between": (raw({"a": entry(), "b": entry(start=12, end=20)}, bytes(20)),
                       "'b'.*leaves a hole; byte 8"),
    "an overlap": (raw({"a": entry(), "b": entry(start=4, end=12)}, bytes(12)), "'b'.*overlaps"),
    "the same bytes twice": (raw({"a": entry(), "b": entry()}, bytes(8)), "overlaps; byte 8"),
    "a long name": (raw({"n" * 10**5: entry(shape=[3])}, bytes(8)), "n…'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line_without_large_allocations(case, tmp_path):
    refused(tmp_path, *HOSTILE[case])


def test_the_limit_of_the_header_holds_before_it_is_read(tmp_path, monkeypatch):
    assert MOST_HEADER == 100_000_000
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", MOST_HEADER + 1))
        file.truncate(MOST_HEADER + 100)                   # takes no room on the disk
    with pytest.raises(SafetensorsError, match="100,000,001 bytes"):
        SafeTensors(path)
    monkeypatch.setattr("llm.weights.safetensors.MOST_HEADER", 2)
    path.write_bytes(raw("{}"))
    assert len(SafeTensors(path)) == 0
    path.write_bytes(raw("{} "))
    with pytest.raises(SafetensorsError, match="3 bytes"):
        SafeTensors(path)


def test_a_million_small_things_are_not_built_when_the_first_is_wrong(tmp_path):
    refused(tmp_path, raw("{" + '"a":[],' * 250_000), "at character 5")
    refused(tmp_path, raw('{"a":{"shape":[' + "1," * 10**6), "at most 64 numbers")


def test_truth_values_are_0_or_1(tmp_path):
    (tmp_path / "a").write_bytes(raw({"t": entry("BOOL", [3], 0, 3)}, b"\0\1\2"))
    with pytest.raises(SafetensorsError, match="neither 0 nor 1"):
        SafeTensors(tmp_path / "a")["t"]


def test_every_shortened_file_is_refused(tmp_path):
    whole = written({"a": np.arange(3, dtype="f4"), "b": np.arange(2)}, {"k": "v"})
    for n in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:n])
        with pytest.raises(SafetensorsError):
            SafeTensors(tmp_path / "a")


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "no", tmp_path):
        with pytest.raises(SafetensorsError, match=f"cannot read {path}: "):
            SafeTensors(path)


def test_a_reader_keeps_the_old_file_when_a_new_one_is_renamed_to_its_path(tmp_path):
    """In a process of its own, which a file shortened under its reader would end by SIGBUS."""
    code = """
        import sys
        import numpy as np
        from llm.weights.safetensors import SafeTensors, write_safetensors
        write_safetensors(sys.argv[1], {"x": np.zeros(10**6)})
        view = SafeTensors(sys.argv[1])["x"]
        write_safetensors(sys.argv[1], {"x": np.ones(3)})
        assert view.shape == (10**6,) and not view.any()
        assert SafeTensors(sys.argv[1])["x"].tolist() == [1, 1, 1]
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path / "a"], cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_opening_and_reading_one_array_does_not_read_the_others(tmp_path):
    write_safetensors(tmp_path / "a", {"large": np.zeros(10**6), "small": np.arange(3)})
    tracemalloc.start()
    assert SafeTensors(tmp_path / "a")["small"].sum() == 3
    assert SafeTensors(tmp_path / "a")["large"][5] == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**5


# whole files


def test_write_whole_takes_these_steps_in_this_order(tmp_path):
    with crash.recording() as recorder:
        write_whole(tmp_path / "a", [b"one", b"two"])
    assert [op.name for op in recorder.ops] == ["link", "write", "write", "fsync", "link",
                                                "unlink", "folder"]
    assert recorder.ops[0].path == f"a.{os.getpid()}.part"          # beside, in the same folder
    assert recorder.ops[4].path == "a" and (tmp_path / "a").read_bytes() == b"onetwo"
    with crash.recording() as recorder:
        write_whole(tmp_path / "a", [b"three"], durable=False)
    assert [op.name for op in recorder.ops] == ["link", "write", "link", "unlink"]


def test_what_a_short_write_leaves_is_written_next(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda handle, data: write(handle, data[:5]))
    data = np.arange(7, dtype=np.int32)
    write_whole(tmp_path / "a", [b"abcdefg", b"", memoryview(data)])
    assert (tmp_path / "a").read_bytes() == b"abcdefg" + data.tobytes()


class Failing:
    """os, but the n-th call of these functions fails."""

    def __init__(self, n, code, names=("open", "write", "fsync", "close", "replace")):
        self.left, self.code, self.names = n, code, names

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.names:
            return real

        def call(*args, **options):
            self.left -= 1
            if self.left == 0:
                if name == "close":
                    real(*args)
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **options)
        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_disk_at_any_call_loses_nothing(tmp_path, monkeypatch, code):
    numbers, rng = killing.Numbers(5), np.random.default_rng(0)
    checkpoints = Checkpoints(tmp_path, {"model": numbers, "rng": rng}, keep=1)
    checkpoints.save(Progress(0))
    failed = 0
    for n in itertools.count(1):
        numbers.x[...] = n
        monkeypatch.setattr(files, "os", system := Failing(n, code))
        try:
            checkpoints.save(Progress(n))
        except CheckpointError as error:
            assert os.strerror(code) in str(error) and "still there" in str(error)
            failed += 1
        monkeypatch.setattr(files, "os", os)
        newest = checkpoints.paths()[-1]
        numbers.x[...] = -1
        step = load_checkpoint(newest, checkpoints.parts).step
        assert (numbers.x == step).all() and not list(tmp_path.glob("*.part"))
        if system.left > 0:
            break
    assert failed >= 8 and step == n            # open, writes, fsync, close, replace, folder


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_real_limit_on_the_size_of_files_loses_nothing(tmp_path):
    code = """
        import resource, sys
        import numpy as np
        from days.day36.killing import Numbers
        from llm.train.checkpoint import CheckpointError, Progress
        from llm.train.keeper import Checkpoints
        numbers = Numbers(50_000)
        checkpoints = Checkpoints(sys.argv[1], {"model": numbers})
        checkpoints.save(Progress(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        numbers.x += 1
        try:
            checkpoints.save(Progress(2))
        except CheckpointError as error:
            print(error)
        assert checkpoints.restore() == Progress(1) and not numbers.x.any()
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "cannot save to" in done.stdout and "File too large" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]


@needs_fork
@pytest.mark.parametrize("how", ["durable", "atomic", "in place"])
def test_kill_9_at_random_moments(tmp_path, how):
    found = killing.in_a_process(tmp_path, how, 25, 0)
    assert found["kills"] == 25
    if how == "in place":
        assert found["nothing"] > 0                           # the control: it does lose
    else:
        assert (found["broken"], found["nothing"], found["went_back"]) == (0, 0, 0)
        assert found["steps"] > 1


def test_no_power_cut_leaves_less_than_was_promised():
    """Every state of the disk that POSIX allows, after each operation of a save."""
    found = power.study()
    safe = found["all five steps"]
    assert safe["disks"] > 9 and safe["broken"] == safe["less"] == safe["nothing"] == 0
    folder = found["without fsync of the folder"]
    assert folder["broken"] == 0 < folder["nothing"] < folder["less"]
    for name in ("without fsync of the file", "without both", "in place"):
        assert min(found[name].values()) > 0


def test_the_possible_disks_by_hand():
    link, write, sync, folder = (crash.Op("link", 1, "a"), crash.Op("write", 1, data=b"x"),
                                 crash.Op("fsync", 1), crash.Op("folder"))
    disks = lambda *ops: sorted(map(str, crash.states(list(ops))))
    assert disks(link) == ["{'a': b''}", "{}"]
    assert disks(link, write) == ["{'a': b'\\x00'}", "{'a': b'x'}", "{}"]
    assert disks(link, write, sync) == ["{'a': b'x'}", "{}"]
    assert disks(link, write, sync, folder) == ["{'a': b'x'}"]
    assert disks(link, write, crash.Op("sync")) == ["{'a': b'x'}"]
    rename = crash.Op("link", 1, "b"), crash.Op("unlink", path="a")
    assert "{'b': b'x'}" in disks(link, write, sync, folder, *rename)


# checkpoints


def make(seed, optimizer=AdamW, generator="PCG64", dtype=np.float32):
    """A tiny GPT with everything that a run has."""
    model = GPT(GPTConfig(V=7, T=5, C=8, L=2, H=2, rotary=True), np.random.default_rng(seed))
    for p in model.named_parameters().values():
        p.data = p.data.astype(dtype)
    return {"model": model, "optimizer": optimizer(model.named_parameters()),
            "rng": np.random.Generator(getattr(np.random, generator)(seed + 10))}


class Stop(Exception):
    pass


def train(parts, steps, start=0, hooks=(), until=None, accumulate=1, **limits):
    ids = np.random.default_rng(5).integers(7, size=200)
    model = parts["model"]

    def stop(step):
        if step.step == until:
            raise Stop

    try:
        return fit(model.named_parameters(), lambda b: (model.loss(*b), b[1].size),
                   random_windows(ids, 3, 5, parts["rng"]), parts["optimizer"],
                   WarmupCosine(1e-2, 4), steps=steps, start=start, hooks=[*hooks, stop],
                   accumulate=accumulate, **limits).losses
    except Stop:
        return None


def bits(parts):
    return {f"{name}.{key}": np.asarray(a).tobytes() for name in ("model", "optimizer")
            for key, a in parts[name].state_dict().items()} | {
                "rng": generator_state(parts["rng"]) if "rng" in parts else None}


@pytest.mark.parametrize("optimizer", [AdamW, RMSProp, SGD, Muon, lambda p: SGD(p, 0.9, True)])
@pytest.mark.parametrize("stop, accumulate", [(1, 1), (7, 2), (11, 1)])
def test_a_resumed_run_is_bit_identical(tmp_path, optimizer, stop, accumulate):
    whole = make(0, optimizer)
    losses = train(whole, 12, accumulate=accumulate)
    first = make(0, optimizer)
    train(first, 12, until=stop, accumulate=accumulate,
          hooks=[Checkpoints(tmp_path, first).hook(1)])
    second = make(99, optimizer)                              # nothing is as it was before
    progress = Checkpoints(tmp_path, second).restore()
    assert progress.step == stop and progress.tokens == stop * accumulate * 15
    assert train(second, 12, start=stop, accumulate=accumulate) == losses[stop:]
    assert bits(second) == bits(whole)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_generator_and_type_resumes(tmp_path, generator, dtype):
    whole, first = make(0, generator=generator, dtype=dtype), make(0, generator=generator,
                                                                     dtype=dtype)
    losses = train(whole, 6)
    train(first, 6, until=3)
    first["rng"].integers(5, dtype=np.int32)                   # half of a 64-bit draw is kept too
    whole_rng = generator_state(first["rng"])
    save_checkpoint(tmp_path / "a", first, Progress(3))
    second = make(4, generator=generator, dtype=dtype)
    load_checkpoint(tmp_path / "a", second)
    assert generator_state(second["rng"]) == whole_rng
    assert {a.dtype for a in second["model"].state_dict().values()} == {np.dtype(dtype)}
    first = make(0, generator=generator, dtype=dtype)
    train(first, 6, until=3)
    save_checkpoint(tmp_path / "a", first, Progress(3))
    load_checkpoint(tmp_path / "a", second)
    assert train(second, 6, start=3) == losses[3:] and bits(second) == bits(whole)


@needs_fork
def test_a_process_that_is_killed_while_it_trains_goes_on_in_another(tmp_path):
    whole = make(0)
    train(whole, 30)
    code = """
        import sys, time
        from tests.test_day36 import *
        parts = make(int(sys.argv[2]))
        checkpoints = Checkpoints(sys.argv[1], parts)
        before = checkpoints.restore()
        slow = lambda step: (print(step.step, flush=True), time.sleep(0.02))
        train(parts, 30, start=before.step, hooks=[checkpoints.hook(1, before), slow])
        """
    for attempt in range(3):
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), tmp_path, str(attempt)],
                              cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                              stdout=subprocess.PIPE) as child:
            for line in child.stdout:
                if attempt < 2 and int(line) >= 10 * (attempt + 1):
                    child.kill()
                    break
            assert child.wait(60) == (-signal.SIGKILL if attempt < 2 else 0)
    last = make(7)
    assert Checkpoints(tmp_path, last).restore().step == 30 and bits(last) == bits(whole)


class Shuffled:
    """Something with a position of its own."""

    def __init__(self):
        self.order, self.at = np.arange(4), 0

    def state_dict(self):
        return {"order": self.order, "at": np.array(self.at)}

    def load_state_dict(self, state):
        self.order[...], self.at = state["order"], int(state["at"])


def test_several_generators_and_parts_of_your_own(tmp_path):
    parts = {"data": np.random.default_rng(1), "dropout": np.random.Generator(np.random.MT19937(2)),
             "batches": Shuffled()}
    parts["batches"].at = 3
    draws = {name: parts[name].bit_generator.state for name in ("data", "dropout")}
    save_checkpoint(tmp_path / "a", parts, Progress(5, 1.5, 60, 2.25))
    other = {"data": np.random.default_rng(8), "dropout": np.random.Generator(np.random.MT19937(8)),
             "batches": Shuffled()}
    other["data"].random(), other["dropout"].random()
    assert load_checkpoint(tmp_path / "a", other) == Progress(5, 1.5, 60, 2.25)
    assert other["batches"].at == 3
    assert str(other["data"].bit_generator.state) == str(draws["data"])
    assert str(other["dropout"].bit_generator.state) == str(draws["dropout"])


def test_generators_are_saved_or_refused_before_training(tmp_path):
    class Own(np.random.PCG64):                                # its name is not that of its state
        pass

    class Needs(np.random.PCG64):
        def __init__(self, seed):
            super().__init__(seed)

    class Forgets(np.random.PCG64):
        @property
        def state(self):
            return {**np.random.PCG64(0).state, "extra": np.random.default_rng()}

    for name in GENERATORS:
        Checkpoints(tmp_path, {"rng": np.random.Generator(getattr(np.random, name)(0))})
    for bad in (Needs(3), Forgets(3)):
        with pytest.raises(ValueError, match="cannot be saved .*default_rng"):
            Checkpoints(tmp_path, {"rng": np.random.Generator(bad)})
    for bad in (np.random.RandomState(0), np.random.PCG64(0), 5, None):
        with pytest.raises(ValueError, match="must be a NumPy Generator"):
            Checkpoints(tmp_path, {"rng": bad})
        with pytest.raises(ValueError, match="is no np.random.Generator"):
            generator_state(bad)
    text = generator_state(np.random.default_rng(0))
    for other in GENERATORS[1:]:
        rng = np.random.Generator(getattr(np.random, other)(0))
        before = str(rng.bit_generator.state)
        with pytest.raises(ValueError, match=f"saved state is of PCG64, the generator is {other}"):
            restore_generator(rng, text)
        assert str(rng.bit_generator.state) == before
    with pytest.raises(ValueError, match="saved state is of None"):
        restore_generator(np.random.default_rng(0), "[1]")


def test_a_generator_that_comes_back_changed_is_refused():
    class Changed(np.random.PCG64):
        count = 0

        @property
        def state(self):
            Changed.count += 1
            return np.random.PCG64(Changed.count).state

        @state.setter
        def state(self, value):
            pass

    with pytest.raises(ValueError, match="not the same after saving"):
        generator_state(np.random.Generator(Changed(0)))


def test_what_does_not_fit_changes_nothing(tmp_path):
    saved = make(0)
    train(saved, 3)
    path = tmp_path / "a"
    save_checkpoint(path, saved, Progress(3))
    other = np.random.Generator(np.random.SFC64(0))
    cases = [({**make(1), "rng": other}, "'rng': the saved state is of PCG64, the gen"),
             (make(1, RMSProp), "'optimizer': optimizer state does not fit"),
             (make(1, dtype=np.float64), "'model': .* is float32 in the file and float64 here"),
             ({k: v for k, v in make(1).items() if k != "rng"}, "these were asked for: model, opt"),
             ({**make(1), "more": Shuffled()}, "holds the parts model, optimizer, rng, and")]
    bigger = make(1)
    bigger["optimizer"] = AdamW(GPT(GPTConfig(V=8, T=5, C=8, L=2, H=2, rotary=True),
                                    np.random.default_rng(0)).named_parameters())
    cases.append((bigger, "'optimizer': optimizer state .* has shape"))
    for parts, reason in cases:
        before = bits(parts)
        with pytest.raises(CheckpointError, match=reason) as told:
            load_checkpoint(path, parts)
        assert bits(parts) == before and "\n" not in str(told.value)

    class Odd:
        """A part that is surprised by what it is given, once: putting back goes well."""

        loads = 0

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            self.loads += 1
            if self.loads == 1:
                raise TypeError("this is not what I saved")

    odd, more = make(1), tmp_path / "b"
    save_checkpoint(more, {"model": saved["model"], "odd": Odd()}, Progress(3))
    before = bits(odd)
    with pytest.raises(CheckpointError, match="does not fit 'odd': this is not what I saved"):
        load_checkpoint(more, {"model": odd["model"], "odd": Odd()})
    assert bits(odd) == before
    other = make(1)
    before = bits(other)
    assert load_checkpoint(path, {"model": other["model"]}, partial=True) == Progress(3)
    for key, value in bits(other).items():
        assert value == (bits(saved) if key.startswith("model.") else before)[key]
    with pytest.raises(CheckpointError, match="holds the parts"):
        load_checkpoint(path, {"weights": other["model"]}, partial=True)


def test_every_flipped_bit_is_noticed(tmp_path, rng):
    """The format itself has no checksum: a flipped weight would pass."""
    parts = {"model": killing.Numbers(40), "rng": np.random.default_rng(0)}
    path = tmp_path / "a"
    save_checkpoint(path, parts, Progress(3))
    whole = bytearray(path.read_bytes())
    for at in range(len(whole)):
        for bit in (range(8) if at < 30 or at % 50 == 0 else rng.integers(8, size=1)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(bit)]) + whole[at + 1:])
            with pytest.raises(CheckpointError):
                load_checkpoint(path, parts)
    path.write_bytes(whole)
    assert load_checkpoint(path, parts) == Progress(3)
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes(flipped)
    assert SafeTensors(path)["model.x"].any()                 # the format does not notice
    with pytest.raises(CheckpointError, match="checksum is wrong. Delete it"):
        load_checkpoint(path, parts)


def test_other_files_are_no_checkpoints(tmp_path):
    path, parts = tmp_path / "a", {"model": killing.Numbers(2)}
    with pytest.raises(CheckpointError, match="cannot read"):
        load_checkpoint(path, parts)
    write_safetensors(path, {"x": np.zeros(2)})
    with pytest.raises(CheckpointError, match="is no training checkpoint, version 1"):
        load_checkpoint(path, parts)
    save_checkpoint(path, parts, Progress())
    texts = SafeTensors(path).metadata
    for bad in ({**texts, "progress": "[]"}, {**texts, "progress": '{"x": 1}'},
                {k: v for k, v in texts.items() if k != "progress"}, {**texts, "progress": "{"}):
        write_safetensors(path, {}, bad)
        with pytest.raises(CheckpointError, match="progress cannot be read"):
            opened(path)
    write_safetensors(path, {}, {k: v for k, v in texts.items() if k != "crc32"})
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path, parts)


def test_the_checksum_is_crc32_of_texts_and_arrays_by_name(tmp_path):
    parts = {"b": killing.Numbers(2), "a": killing.Numbers(1)}
    parts["b"].x[...] = 1, 2
    save_checkpoint(tmp_path / "a", parts, Progress(1))
    file = SafeTensors(tmp_path / "a")
    texts = {k: v for k, v in file.metadata.items() if k != "crc32"}
    data = json.dumps(texts, sort_keys=True).encode() + np.float32([0, 1, 2]).tobytes()
    assert file.metadata["crc32"] == f"{zlib.crc32(data):08x}"


# the folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_n_and_the_best_are_kept(tmp_path):
    parts = {"model": killing.Numbers(1)}
    checkpoints = Checkpoints(tmp_path / "new" / "folder", parts, keep=2)
    scores = [3.0, 1.5, math.nan, 1.5, None, 2.0]
    for step, score in enumerate(scores, 1):
        parts["model"].x[...] = step
        path = checkpoints.save(Progress(step, score=score))
        assert path == checkpoints.paths()[-1] and path.exists()
    assert names(checkpoints.folder) == [f"step-0000000{i}.safetensors" for i in (2, 5, 6)]
    assert checkpoints.best() == checkpoints.paths()[0]          # the first of equals
    assert checkpoints.restore(checkpoints.best()).step == 2 and parts["model"].x == 2
    assert checkpoints.restore().step == 6 and parts["model"].x == 6
    again = Checkpoints(checkpoints.folder, parts, keep=1)       # it is written in the files
    again.save(Progress(7, score=1.0))
    assert names(checkpoints.folder) == ["step-00000007.safetensors"]


def test_an_empty_folder_is_a_beginning(tmp_path):
    parts = {"model": killing.Numbers(1)}
    parts["model"].x[...] = 5
    checkpoints = Checkpoints(tmp_path, parts)
    assert checkpoints.keep == 3 and checkpoints.durable
    assert checkpoints.restore() == Progress() and parts["model"].x == 5
    assert checkpoints.best() is None and checkpoints.paths() == []
    for step in range(1, 6):
        checkpoints.save(Progress(step))
    assert len(checkpoints.paths()) == 3 and checkpoints.best() is None


def test_steps_are_ordered_as_numbers_and_other_files_left_alone(tmp_path):
    for name in ("notes.txt", "step-1.safetensors", "other.part"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "step-00000003.safetensors.1.part").write_text("of a killed run")
    checkpoints = Checkpoints(tmp_path, {"model": killing.Numbers(1)}, keep=2)
    for step in (99_999_999, 100_000_000):
        checkpoints.save(Progress(step))
    assert names(tmp_path) == ["notes.txt", "other.part", "step-1.safetensors",
                               "step-100000000.safetensors", "step-99999999.safetensors"]
    assert checkpoints.restore().step == 100_000_000


def test_the_older_file_goes_after_the_newer_one_is_safe(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {"model": killing.Numbers(1)}, keep=1)
    checkpoints.save(Progress(1))
    seen = []
    monkeypatch.setattr(keeper, "save_checkpoint",
                        lambda *args: (seen.append(names(tmp_path)), save_checkpoint(*args)))
    checkpoints.save(Progress(2))
    assert seen == [["step-00000001.safetensors"]]
    assert names(tmp_path) == ["step-00000002.safetensors"]


def test_a_damaged_file_is_told_and_costs_no_training(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"model": killing.Numbers(1)}, keep=2)
    checkpoints.save(Progress(1, score=1.0))
    checkpoints.save(Progress(2, score=2.0))
    checkpoints.paths()[0].write_bytes(b"damaged")
    assert checkpoints.best() == checkpoints.paths()[1]
    checkpoints.save(Progress(3, score=3.0))
    checkpoints.paths()[-1].write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="step-00000003.*only 7 bytes"):
        checkpoints.restore()


def test_a_later_checkpoint_of_another_run_is_not_mixed_up(tmp_path):
    parts = {"model": killing.Numbers(1)}
    checkpoints = Checkpoints(tmp_path, parts)
    checkpoints.save(Progress(5))
    checkpoints.hook(1, Progress(5))
    checkpoints.save(Progress(5))                                 # the same step again is right
    for wrong in (lambda: checkpoints.hook(1), lambda: checkpoints.save(Progress(4))):
        with pytest.raises(CheckpointError, match="later than step [04]: restore it first"):
            wrong()


def test_bad_requests_are_refused_at_once(tmp_path):
    parts = {"model": killing.Numbers(1)}
    for keep in (0, -1):
        with pytest.raises(ValueError, match=f"keep={keep}"):
            Checkpoints(tmp_path, parts, keep=keep)
    for every in (0, -1):
        with pytest.raises(ValueError, match=f"every={every}"):
            Checkpoints(tmp_path, parts).hook(every)
    for name in ("", "a.b"):
        with pytest.raises(ValueError, match="a word without dots"):
            Checkpoints(tmp_path, {name: parts["model"]})
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot keep checkpoints in .*Choose another"):
        Checkpoints(tmp_path / "file", parts)


def test_a_file_that_cannot_be_deleted_is_told(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {"model": killing.Numbers(1)}, keep=1)
    checkpoints.save(Progress(1))

    def unlink(self, missing_ok=False):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(type(tmp_path), "unlink", unlink)
    with pytest.raises(CheckpointError, match="saved .*2.safetensors, but cannot delete .*1.safe"):
        checkpoints.save(Progress(2))
    assert len(checkpoints.paths()) == 2


def test_the_hook_saves_each_so_many_steps_and_the_last(tmp_path):
    parts, scores = make(0), iter([3.0, 2.0, 4.0])
    checkpoints = Checkpoints(tmp_path, parts, keep=9)
    before = Progress(0, 10.0, 1000)
    train(parts, 10, hooks=[checkpoints.hook(4, before, lambda: next(scores))])
    found = [opened(path)[1] for path in checkpoints.paths()]
    assert [(p.step, p.tokens, p.score) for p in found] == [(4, 1060, 3.0), (8, 1120, 2.0),
                                                            (10, 1150, 4.0)]
    assert 10 < found[0].seconds <= found[1].seconds <= found[2].seconds
    train(parts, 2, hooks=[Checkpoints(tmp_path / "b", parts).hook(2)])
    assert opened(Checkpoints(tmp_path / "b", parts).paths()[0])[1].score is None


# by the clock


def test_a_run_by_the_clock_goes_on_with_its_schedule():
    """Ten steps a second, 20 s in all, stopped after 8: the rate is that of an unstopped run."""
    schedule = WarmupCosine(1.0, warmup=10)
    before = Progress(80, 8.0)
    rates = continued(schedule, before, 20.0)
    for step in range(81, 201):
        total = 80 + int((step - 80) * 12 / ((step - 80) / 10))           # what fit will say
        assert rates(step, total) == pytest.approx(schedule(step, 200), abs=0.01)
    assert rates(200, 200) == schedule(200, 200) == 0
    # a first step that takes 1 s, since kernels are compiled: fit alone would see 92 steps
    assert rates(81, 92) == pytest.approx(schedule(81, 180), abs=0.02)
    assert schedule(81, 92) < 0.05 < 0.5 < rates(81, 92)
    with pytest.raises(ValueError, match="20.0 of 20.0 seconds are used"):
        continued(schedule, Progress(200, 20.0), 20.0)
    with pytest.raises(ValueError, match="give the run more"):
        continued(schedule, Progress(200, 21.0), 20.0)


def test_by_the_clock_in_the_loop(tmp_path):
    """The rate never jumps back to the warmup, and ends near 0."""
    parts, seen = make(0), []
    checkpoints = Checkpoints(tmp_path, parts)
    budget, schedule = 0.6, WarmupCosine(1e-2, 3)
    losses = lambda start, seconds, plan: fit(
        parts["model"].named_parameters(), lambda b: (parts["model"].loss(*b), b[1].size),
        random_windows(np.arange(200) % 7, 3, 5, parts["rng"]), parts["optimizer"], plan,
        seconds=seconds, start=start, hooks=[lambda s: seen.append(s)])
    run = losses(0, 0.3, lambda step, total: schedule(step, 2 * total))
    checkpoints.save(Progress().after(run.steps, run.seconds, run.tokens))
    before = checkpoints.restore()
    assert (before.step, before.tokens) == (run.steps, run.tokens) and before.seconds >= 0.3
    run = losses(before.step, budget - before.seconds, continued(schedule, before, budget))
    assert run.steps > before.step
    resumed = [s for s in seen if s.step > before.step]
    assert [s.step for s in seen] == list(range(1, run.steps + 1))
    assert 2e-3 < resumed[0].rate < 8e-3 and resumed[-1].rate < 2e-3


# day 35


def test_snapshots_of_day_35_become_checkpoints(tmp_path):
    whole, first = make(0), make(0)
    train(whole, 6)
    train(first, 6, until=4)
    save_snapshot(tmp_path / "old.npz", first["model"], first["optimizer"], first["rng"],
                  {"step": 4})
    about, weights, moments, rng_state = load_snapshot(tmp_path / "old.npz")
    second = make(3)
    second["model"].load_state_dict(weights)
    second["optimizer"].load_state_dict(moments)
    restore_generator(second["rng"], json.dumps(rng_state))
    save_checkpoint(tmp_path / "new", second, Progress(about["step"]))
    third = make(5)
    before = load_checkpoint(tmp_path / "new", third)
    train(third, 6, start=before.step)
    assert bits(third) == bits(whole)


def test_parse_header_alone():
    entries, metadata = parse_header(b'{"__metadata__":{"a":"b"},"x":{"dtype":"U8","shape":[],'
                                     b'"data_offsets":[0,1]}}')
    assert metadata == {"a": "b"} and entries["x"].shape == () and entries["x"].end == 1
    assert parse_header(b'{"__metadata__":{}}') == ({}, {})


# the study


def test_the_parts_of_a_checkpoint_add_up_to_12_bytes_a_parameter(tmp_path):
    parts = make(0)
    path = Checkpoints(tmp_path, parts).save(Progress(1))
    found = dict(writing.contents(path))
    P = parts["model"].count_parameters()
    assert found["weights"] == found["m"] == found["v"] == 4 * P
    assert found["step counts"] == 8 * len(parts["model"].named_parameters())
    assert found["header"] + 12 * P + found["step counts"] == path.stat().st_size


def test_what_is_forgotten_is_forgotten_and_nothing_else():
    recipe = replace(study.recipe(fast=True), steps=8, warmup=2)
    text = "to be or not to be, that is the question. " * 40
    corpus = type("Corpus", (), {"text": text, "train": text, "validation": text})
    ids, held = study.encoded(corpus, 0, 200)
    with tempfile.TemporaryDirectory() as folder:
        found = study.compare(corpus, recipe, 3, folder, ids, held, lambda n: None)
    whole = found[study.WHOLE]
    assert len(whole[0]) == 4 and found["nothing"] == whole
    for way in study.WAYS:
        losses, nats, equal = found[way]
        assert len(losses) == 4 and equal == (way == "nothing")
        if way in ("the moments and their counts", "the counts alone", "the step"):
            assert losses[0] == whole[0][0] and losses[2:] != whole[0][2:]     # the same windows
        elif way != "nothing":
            assert losses[0] != whole[0][0]


def test_the_study_gives_the_blas_one_thread_and_then_what_it_had():
    blas, before = Blas(), Blas().threads()
    try:
        blas.set_threads(2)
        had = blas.threads()                                  # 0 where it cannot be told
        with pytest.raises(ZeroDivisionError), study.one_blas_thread():
            assert blas.threads() == min(had, 1)
            raise ZeroDivisionError
        assert blas.threads() == had
    finally:
        blas.set_threads(before or 1)


def test_headline_a_resumed_run_is_the_same_run_and_whole_files_survive():
    result = measure(fast=True, seed=0)
    assert result.equal and result.losses_equal and result.forgotten["nothing"] == [0, 0]
    assert all(any(v) for way, v in result.forgotten.items() if way != "nothing")
    sizes = dict(result.contents)
    assert sizes["weights"] == 4 * result.parameters == sizes["m"] == sizes["v"]
    assert not any(result.curves["nothing"]) and len(result.curves["the step"]) == 20
    for how in ("atomic", "durable"):
        assert not result.kills or result.kills[how]["broken"] == 0
    assert result.power["all five steps"]["less"] == 0 < result.power["in place"]["nothing"]
