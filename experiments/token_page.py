"""Day 52 · Write the data of the page notes/interactive/token.html: tokens going through SmolLM2.

    python experiments/token_page.py           refresh the page
    python experiments/token_page.py --check   change nothing; exit 1 if the page is stale

As with the pages of `pages.py`, the page is a template that holds its
own data. Here they are computed before: a model of 98 MB does not go into a page. `streams` does
the work of day 42's `decode` once more and keeps what lies between the layers; `lens` reads each
of these vectors as if it were the last. All of it in float64, which takes two gigabytes, and
rounded to four digits, so that two machines agree. Left out: which earlier tokens a head looks at;
attention.html shows that.
"""

import numpy as np

from days.harness import say
from experiments.pages import FOLDER, as_json, fill, main
from llm.functions.probability import log_softmax
from llm.generate.decode import apply, attend, feed_forward, norm, split
from llm.generate.pretrained import load
from llm.generate.rotate import turn

PAGE = FOLDER / "token.html"
PROMPTS = ["The Eiffel Tower stands in the city of", "Romeo and Juliet is a play by William",
           "Monday, Tuesday, Wednesday, Thursday,", "The opposite of hot is",
           "def fibonacci(n):\n    if n", "The cat sat on the"]
SHOWN, DIGITS = 5, 4
NAMES = {"token_embd": "embedding", "attn_norm": "norm", "attn_q": "queries", "attn_k": "keys",
         "attn_v": "values", "attn_output": "projection", "ffn_norm": "norm", "ffn_gate": "gate",
         "ffn_up": "up", "ffn_down": "down", "output_norm": "last norm"}


def streams(arch, weights, ids):
    """The residual stream of tokens ids (n,): (2L + 1, n, C), of the weights' type.

    Behind the embedding, then behind attention and behind the feed-forward of each block.
    """
    positions, x = np.arange(len(ids)), weights["embed"][ids]
    found = [x]
    for i in range(arch.L):
        block = f"blocks.{i}."
        q, k, v = split(arch, apply(weights, block + "qkv", norm(arch, weights, block + "norm1",
                                                                 x)))
        q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)
        x = x + apply(weights, block + "project", attend(q, k, v, 0))
        found.append(x)
        x = x + feed_forward(arch, weights, block, norm(arch, weights, block + "norm2", x))
        found.append(x)
    return np.array(found)


def lens(arch, weights, x):
    """Any stream (n, C) read by the last norm and the head: log-probabilities (n, V)."""
    return log_softmax(norm(arch, weights, "norm", x) @ weights["embed"].T)


def way(stream, logp, following):
    """One token's way: stream (2L + 1, C), logp (2L + 1, V), the id that the text goes on with.

    final: the id that the model finds likeliest in the end; p, of the text's next id `next` too:
    behind each half of a block; top, place: behind each block, the SHOWN likeliest ids with their
    probabilities, and the place of `final` among all; the lengths of the stream and of what
    attention and feed-forward add to it.
    """
    final, length = int(logp[-1].argmax()), lambda x: short(np.linalg.norm(x, axis=-1))
    after = logp[::2]                                                        # (L + 1, V)
    best = np.argsort(-after, axis=-1, kind="stable")[:, :SHOWN]
    return {"final": final, "p": short(np.exp(logp[:, final])),
            "next": None if following is None else short(np.exp(logp[:, following])),
            "top": [[ids.tolist(), short(np.exp(row[ids]))] for ids, row in zip(best, after)],
            "place": (1 + (after > after[:, [final]]).sum(-1)).tolist(),
            "length": length(stream[::2]), "attention": length(stream[1::2] - stream[:-1:2]),
            "thought": length(stream[2::2] - stream[1::2])}


def short(values):
    """Numbers with few digits; what is smaller than any float is 0."""
    return [float(f"{x:.{DIGITS}g}") for x in values]


def prompt(model, weights, text):
    """All that the page knows of one text: its ids, and the way of each."""
    ids = model.encode(text).tolist()
    x = streams(model.arch, weights, ids)
    ways = []
    for t, following in enumerate([*ids[1:], None]):
        ways.append(way(x[:, t], lens(model.arch, weights, x[:, t]), following))
    return {"text": text, "ids": ids, "ways": ways}


def matrices(file):
    """[name, outputs, inputs, type, how many, bytes of one] of the file's tensors, in the order of
    use. Those of one name must be of one kind and shape."""
    found = {}
    for tensor in file.tensors.values():
        name = tensor.name.removesuffix(".weight").split(".")[-1]
        row = (*(tensor.shape if len(tensor.shape) == 2 else (tensor.shape[0], 0)),
               tensor.kind.name, tensor.size)
        found.setdefault(name, []).append(row)
    for name, rows in found.items():
        if len(set(rows)) > 1:
            raise ValueError(f"the file has {name} in several kinds: {set(rows)}")
    return [[name, *rows[0][:3], len(rows), rows[0][3]]
            for name, rows in ((name, found[name]) for name in NAMES)]


def data(model):
    """What the page holds."""
    weights = {name: array.astype(np.float64) for name, array in model.weights().items()}
    arch = model.arch
    prompts = [prompt(model, weights, text) for text in PROMPTS]
    ids = {i for one in prompts for i in one["ids"]}
    ids |= {i for one in prompts for w in one["ways"] for best, _ in w["top"] for i in best}
    return {"config": {key: getattr(arch, key) for key in "VCLHKDF"},
            "file": len(model.file.data), "matrices": matrices(model.file), "names": NAMES,
            "pieces": {i: model.tokenizer.table[i].hex() for i in sorted(ids)},
            "prompts": prompts}


def fresh(model):
    """{path: text} of the page as it should be."""
    return {PAGE: fill(PAGE.read_text(encoding="utf-8"), "data",
                       as_json(data(model)).replace("<", "\\u003c"))}


if __name__ == "__main__":
    main(lambda: fresh(load(report=say)), __doc__)
