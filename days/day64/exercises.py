"""Day 64 · Exercises to build; `python -m days check 64` grades them."""

import json
import random
import tempfile
from pathlib import Path

import numpy as np

from llm.weights.safetensors import SafeTensors


def write_shards(folder, arrays, most):
    """Write {name: array} into several safetensors files of at most `most` bytes of data each.

    Files are model-00001-of-00003.safetensors and so on. Arrays keep their order; a file is closed
    when the next array would make it larger than `most`; an array that is larger by itself has a
    file of its own. model.safetensors.index.json says where each is:

        {"metadata": {"total_size": bytes of all data}, "weight_map": {name: file name, …}}

    The index is written last. That is how Hugging Face's libraries keep models that are too large
    for one file. Use `write_safetensors`; the metadata of each file is {"format": "pt"}.
    """
    raise NotImplementedError


def read_events(pieces):
    """The other end of a stream: bytes as a network delivers them -> yield the parsed JSON objects.

    pieces: an iterable of bytes, cut anywhere, also inside a character or between \\r and \\n. An
    event is one or more lines `data: …` (the space is optional) and ends with an empty line; lines
    end with \\n or \\r\\n. Several data lines of one event are joined by \\n. Other lines (comments
    `: …`, fields such as `id: 5`) are skipped. `data: [DONE]` ends the stream; an event that was
    not ended by an empty line is dropped. Each object is yielded as soon as its empty line is here.
    """
    raise NotImplementedError


def check_write_shards(f):
    """Every array is found, in order, and no file is larger than it must be."""
    rng = np.random.default_rng(0)
    for sizes, most, files in (([10, 10, 10], 80, [2, 1]), ([10, 10, 10], 79, [1, 1, 1]),
                               ([30, 1, 1], 80, [1, 2]), ([1, 30, 1], 80, [1, 1, 1]),
                               ([5], 1000, [1]), ([3, 3, 3, 3], 36, [3, 1])):
        arrays = {f"w{j}": rng.standard_normal(n).astype(np.float32) for j, n in enumerate(sizes)}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            f(folder, arrays, most)
            index = json.loads((folder / "model.safetensors.index.json").read_text())
            assert index["metadata"]["total_size"] == 4 * sum(sizes), index["metadata"]
            names = [f"model-{j + 1:05d}-of-{len(files):05d}.safetensors"
                     for j in range(len(files))]
            found = sorted(p.name for p in folder.glob("*.safetensors"))
            assert found == names, f"{found}; {names} were wanted for {sizes} and {most}"
            wanted = iter(arrays)
            for name, count in zip(names, files):
                shard = SafeTensors(folder / name)
                assert shard.metadata == {"format": "pt"}
                mine = [next(wanted) for _ in range(count)]
                assert sorted(shard) == sorted(mine), f"{name} holds {list(shard)}, not {mine}"
                for key in mine:
                    assert index["weight_map"][key] == name
                    assert np.array_equal(shard[key], arrays[key])


def check_read_events(f):
    """However the bytes are cut, the same objects; and each as soon as it is whole."""
    text = ('data: {"a": "ö漢"}\n\n: hello\r\ndata:{"b": 1}\r\n\r\nid: 5\ndata: {"c":\ndata: 2}\n\n'
            '\n\ndata: [DONE]\n\ndata: {"never": 1}\n\n').encode()
    wanted = [{"a": "ö漢"}, {"b": 1}, {"c": 2}]
    assert list(f([text])) == wanted, f"{list(f([text]))}, wanted {wanted}"
    rng = random.Random(0)
    for _ in range(200):
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(1, 20)))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        assert list(f(parts)) == wanted, f"cut at {cuts}: {list(f(parts))}"
    assert list(f([text[i:i + 1] for i in range(len(text))])) == wanted
    assert list(f([b'data: {"a": 1}\n'])) == [], "an event that does not end is dropped"
    assert list(f([])) == []
    came = []

    def slowly():
        for part in (b'data: {"a": 1}\n\n', b'data: {"b": 1}\n\n'):
            came.append(part)
            yield part

    assert next(iter(f(slowly()))) == {"a": 1}
    assert len(came) == 1, "the first object was held back until more came"
