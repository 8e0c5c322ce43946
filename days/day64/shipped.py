"""Day 64 · The reader's GPT in every form in which it is shipped, read back and compared."""

from functools import partial

import numpy as np

from days.day64 import misread
from llm.generate.architecture import Architecture
from llm.generate.evaluate import nats_per_byte
from llm.generate.plain import Plain
from llm.weights import export_gguf
from llm.weights.export import export_hf, import_hf, weights_of
from llm.weights.gguf import GGUF
from llm.weights.import_gguf import describe_gpt, gpt_arrays

FORMS = [("folder", "F32"), ("folder", "BF16"), ("GGUF", "F32"), ("GGUF", "F16"),
         ("GGUF", "Q8_0")]


def write(folder, arch, weights, tokenizer):
    """Every form into `folder` -> {(form, kind): path}."""
    paths = {}
    for form, kind in FORMS:
        name = folder / f"gpt-{kind.lower()}"
        paths[form, kind] = name if form == "folder" else name.with_suffix(".gguf")
        writer = export_hf if form == "folder" else export_gguf.export_gguf
        writer(paths[form, kind], arch, weights, tokenizer, kind=kind)
    return paths


def read_back(form, path):
    """(arch, weights) of a form."""
    if form == "folder":
        about, arrays, *_ = import_hf(path)
        arch = Architecture(**about)
        return arch, weights_of(arrays, arch)
    file = GGUF(path)
    arch = Architecture(**describe_gpt(file))
    return arch, gpt_arrays(file, arch)


def size(path):
    """Bytes of the weights' file."""
    return (path / "model.safetensors" if path.is_dir() else path).stat().st_size


def judge(read, tokenizer, text, T):
    """(nats a character, logits of every window): what a reader expects of a held-out text."""
    ids = tokenizer.encode(text)
    windows = [read(ids[i:i + T]) for i in range(0, len(ids) - T, T)]
    return float(nats_per_byte(read, tokenizer, text, T)), np.concatenate(windows)


def plain(arch, weights):
    """Day 42's decoder: ids (n,) -> logits (n, V)."""
    return Plain(arch, weights).read


def apart(found, wanted):
    """(largest difference of a logit, share of positions whose likeliest token is another)."""
    return (float(np.abs(found - wanted).max()),
            float((found.argmax(1) != wanted.argmax(1)).mean()))


def misreadings(arch, weights, tokenizer, text, wanted):
    """Rows of readers to whom one key was not told: [reader, nats, largest difference, share]."""
    rows = []
    for name, fault in misread.READERS.items():
        nats, found = judge(partial(misread.read, arch, weights, **fault), tokenizer, text, arch.T)
        rows.append([name, nats, *apart(found, wanted)])
    return rows


def compare(arch, weights, tokenizer, paths, text, tick=lambda: None):
    """Rows: [form, type, bytes, nats a character, largest difference of a logit, share of
    positions whose likeliest next token is another]; the first is the model in memory. Then its
    logits, and `lead` for the last form."""
    nats, wanted = judge(plain(arch, weights), tokenizer, text, arch.T)
    rows = [["in memory", "F32", sum(a.nbytes for a in weights.values()), nats, 0.0, 0.0]]
    for (form, kind), path in paths.items():
        nats, found = judge(plain(*read_back(form, path)), tokenizer, text, arch.T)
        rows.append([form, kind, size(path), nats, *apart(found, wanted)])
        tick()
    return rows, wanted, lead(wanted, found.argmax(1) != wanted.argmax(1))


def lead(logits, here):
    """[median of how far the likeliest token's logit is ahead of the second, all positions, and
    where `here` (positions,) is true]."""
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    ahead = first - second
    return [float(np.median(ahead)), float(np.median(ahead[here])) if here.any() else 0.0]
