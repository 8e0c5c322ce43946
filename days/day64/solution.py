"""Day 64 · Solutions of the exercises."""

import json

from llm.weights.files import write_whole
from llm.weights.safetensors import write_safetensors


def write_shards(folder, arrays, most):
    """Fill a file until the next array is too much for it; count the files; then name them."""
    shards, size = [{}], 0
    for name, array in arrays.items():
        if shards[-1] and size + array.nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = array
        size += array.nbytes
    places = {}
    for j, shard in enumerate(shards, 1):
        file = f"model-{j:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / file, shard, {"format": "pt"})
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())},
             "weight_map": places}
    write_whole(folder / "model.safetensors.index.json", [json.dumps(index).encode()])


def read_events(pieces):
    """Keep bytes until a line is whole: \\n never occurs inside a character of UTF-8."""
    held, data = b"", []
    for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                whole, data = b"\n".join(data), []
                if whole == b"[DONE]":
                    return
                yield json.loads(whole)
