"""Day 36 · safetensors against the format's own package: both ways, and on files changed at random.
"""

import json
import struct

import numpy as np
import pytest

from llm.weights.bfloat16 import from_bfloat16, to_bfloat16
from llm.weights.header import SafetensorsError
from llm.weights.safetensors import TYPES, SafeTensors, pieces, write_safetensors

peer = pytest.importorskip("safetensors", reason="pip install -r requirements-dev.txt brings it")
numpy_side = pytest.importorskip("safetensors.numpy", reason="of the same package")


def arrays_of(rng):
    found = {}
    for i in range(rng.integers(1, 9)):
        name = rng.choice([t for t in TYPES if t != "BF16"])
        shape = tuple(rng.integers(1, 4, size=rng.integers(1, 4)))
        values = rng.integers(-9, 99, size=shape)
        values = values > 0 if name == "BOOL" else values
        found[f"{'abcä'[i % 4]}.{i}"] = values.astype(TYPES[name])
    return found


def written(arrays, metadata=None):
    return b"".join(map(bytes, pieces(arrays, metadata)))


def test_our_bytes_are_the_packages_bytes():
    rng = np.random.default_rng(0)
    for _ in range(100):
        arrays, metadata = arrays_of(rng), {"step": "3"} if rng.random() < 0.5 else None
        assert written(arrays, metadata) == numpy_side.save(arrays, metadata)
    assert written({}) == numpy_side.save({})


def test_each_reads_what_the_other_writes(tmp_path):
    rng = np.random.default_rng(1)
    for _ in range(50):
        arrays = {**arrays_of(rng), "scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32)}
        write_safetensors(tmp_path / "ours", arrays, {"k": "v"})
        with peer.safe_open(tmp_path / "ours", "numpy") as file:
            assert file.metadata() == {"k": "v"} and set(file.keys()) == arrays.keys()
            assert all(same(file.get_tensor(name), a) for name, a in arrays.items())
        numpy_side.save_file(arrays, tmp_path / "theirs", {"k": "w"})
        ours = SafeTensors(tmp_path / "theirs")
        assert ours.metadata == {"k": "w"} and ours.keys() == arrays.keys()
        assert all(same(ours[name], a) for name, a in arrays.items())


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_bfloat16_equals_torchs(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install -r requirements-dev.txt brings it")
    torch_side = pytest.importorskip("safetensors.torch", reason="of the same package")
    bits = np.random.default_rng(2).integers(2**32, size=200_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[~np.isnan(x)]
    theirs = torch.from_numpy(x).to(torch.bfloat16)
    assert np.array_equal(to_bfloat16(x), theirs.view(torch.uint16).numpy())
    write_safetensors(tmp_path / "ours", {"x": x}, bf16=["x"])
    assert torch.equal(torch_side.load_file(tmp_path / "ours")["x"], theirs)
    torch_side.save_file({"x": theirs}, tmp_path / "theirs")
    assert np.array_equal(SafeTensors(tmp_path / "theirs")["x"], theirs.float().numpy())
    assert np.array_equal(from_bfloat16(to_bfloat16(x)), theirs.float().numpy())


def accepts(read):
    try:
        return {name: (a.dtype, a.shape, a.tobytes()) for name, a in read().items()}
    except (SafetensorsError, peer.SafetensorError):
        return None


def test_on_changed_files_we_accept_nothing_that_the_package_refuses(tmp_path):
    """And what both accept is the same. We refuse more: what the package passes over in silence."""
    rng, both, ours_only, theirs_only = np.random.default_rng(3), 0, [], 0
    path = tmp_path / "a"
    for _ in range(4000):
        arrays = {k: a for k, a in arrays_of(rng).items() if a.dtype != bool}
        content = bytearray(written(arrays, {"k": "v"}))
        length, = struct.unpack("<Q", content[:8])
        for _change in range(rng.integers(1, 3)):
            at = int(rng.integers(8, 8 + length))
            kind = rng.integers(5)
            if kind == 0:
                content[at] = rng.integers(256)
            elif kind == 1:
                content[at] = rng.choice(list(b'0123456789{}[]",: \n\\-e.t'))
            elif kind == 2:
                content[at:at + 1] = b""
            elif kind == 3:
                content[at:at] = bytes([rng.choice(list(b'0123456789{}[]",: '))])
            else:
                content += b"\0" * int(rng.integers(0, 3))
        if rng.random() < 0.7:                              # else the length is wrong as well
            content[:8] = struct.pack("<Q", max(0, length + len(content) - len(written(
                arrays, {"k": "v"}))))
        path.write_bytes(content)
        a, b = accepts(lambda: dict(SafeTensors(path))), accepts(
            lambda: numpy_side.load_file(path))
        if a is not None and b is None:
            ours_only.append(bytes(content))
        both += a is not None and b is not None
        theirs_only += a is None and b is not None
        assert a is None or b is None or a == b
    assert ours_only == [] and both > 50 and theirs_only < both


def test_the_package_lets_a_name_come_twice_and_we_do_not(tmp_path):
    """Its documentation forbids it; its reader takes one of them."""
    entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    path = tmp_path / "a"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\x80\x3f")
    with pytest.raises(SafetensorsError, match="has 'a' twice"):
        SafeTensors(path)
    assert numpy_side.load_file(path)["a"] == 1
