"""Day 50 · One training step of a GPT on long windows of Shakespeare, with either attention."""

import time
from statistics import median

import numpy as np

from days.day35.trained import trained
from llm.data.batches import sliding_windows
from llm.grad.walk import saved_bytes
from llm.models.gpt import GPT, GPTConfig
from llm.train import fast_flash, fast_gated


def training_steps(fast, seed):
    """{ways, seconds, kept (bytes), losses, T, C, L, H}: the same model, batch and start."""
    reader = trained(fast)
    C, L, H = reader.config.C, reader.config.L, reader.config.H
    T = 128 if fast else 2048
    ids = np.asarray(reader.tokenizer.encode(reader.corpus.train[:20 * T + 1000]))
    inputs, targets = next(sliding_windows(ids, 1, T, T))
    model = GPT(GPTConfig(V=reader.config.V, T=T, C=C, L=L, H=H, rotary=True),
                np.random.default_rng(seed))
    ways = {"day 38": fast_gated.fast, "flash": fast_flash.fast}
    took, kept, losses = {way: [] for way in ways}, {}, {}
    for _ in range(2 if fast else 5):
        for way, context in ways.items():
            with context():
                for p in model.named_parameters().values():
                    p.grad = None
                start = time.perf_counter()
                loss = model.loss(inputs, targets)
                loss.backward()
                took[way].append(time.perf_counter() - start)
                losses[way] = float(loss.data)
                kept[way] = saved_bytes(model.loss(inputs, targets))
    return {"ways": list(ways), "seconds": [median(took[way][1:]) for way in ways],
            "kept": [kept[way] for way in ways], "losses": [losses[way] for way in ways],
            "T": T, "C": C, "L": L, "H": H}
