"""Day 39 · How far gradients and losses by hand are from the tape's, and what memory each takes."""

import tracemalloc

import numpy as np

from llm.models.by_hand import plain
from llm.models.by_hand.arena import most_alive, place
from llm.models.by_hand.buffers import activations, count_bytes
from llm.models.gpt import GPT, GPTConfig
from llm.models.gpt_by_hand import GPTByHand
from llm.train.adam import AdamW
from llm.train.fast import fast
from llm.train.loop import fit
from llm.train.schedule import Constant


def model_and_batch(config, B, T, seed):
    rng = np.random.default_rng(seed)
    model = GPT(config, rng)
    ids = rng.integers(0, config.V, (B, T + 1))
    return model, ids[:, :-1], ids[:, 1:]


def apart(ours, theirs):
    """Largest difference over largest number, the worst array."""
    return max(float(np.abs(ours[name] - g).max() / np.abs(g).max()) for name, g in theirs.items()
               if np.abs(g).max() > 1e-7)


def gradients_apart(config, B, T, seed, **options):
    """How far gradients by hand are from the tape's (day 34's model, day 35's loss, on NumPy).

    Also the largest gradient of the keys' biases in block 0 over that of the queries'.
    """
    model, ids, targets = model_and_batch(config, B, T, seed)
    model.loss(ids, targets).backward()
    theirs = {name: p.grad for name, p in model.named_parameters().items()}
    trainer = GPTByHand(model, B, T, **options)
    trainer.step(ids, targets, 0.0)
    bias, C = np.abs(theirs["blocks.0.mix.inner.qkv.b"]), config.C
    return apart(trainer.gradients[0], theirs), float(bias[C:2 * C].max() / bias[:C].max())


def losses_apart(config, B, T, seed, steps=20, rate=3e-4):
    """Largest difference of a loss in `steps` steps of `fit` and by hand; of a parameter, of the
    keys' biases and of all others, in units of rate · steps (how far Adam can go)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, config.V, (steps, B, T + 1))
    data = [(part[:, :-1], part[:, 1:]) for part in rows]
    tape, other = (GPT(config, np.random.default_rng(seed)) for _ in range(2))
    parameters = tape.named_parameters()
    with fast():
        theirs = fit(parameters, lambda batch: (tape.loss(*batch), batch[1].size), iter(data),
                     AdamW(parameters), Constant(rate), steps=steps).losses
    ours = GPTByHand(other, B, T).train(iter(data), Constant(rate), steps)
    keys, rest = 0.0, 0.0
    for name, p in other.named_parameters().items():
        gap = np.abs(p.data - parameters[name].data) / (rate * steps)
        if name.endswith("qkv.b"):
            keys = max(keys, float(gap[config.C:2 * config.C].max()))
            gap = np.delete(gap, range(config.C, 2 * config.C))
        rest = max(rest, float(gap.max()))
    return float(np.abs(np.subtract(ours, theirs)).max()), keys, rest


def memory(config, B, T, seed):
    """MiB: the tape's peak in forward and backward (kernels of day 38), which are activations and
    gradients; by hand both apart, as in the arena, and what all buffers would take if each had a
    place of its own. And the peak of what a step by hand allocates, in KiB."""
    model, ids, targets = model_and_batch(config, B, T, seed)
    with fast():
        model.loss(ids, targets).backward()
        model.zero_grad()
        tracemalloc.start()
        model.loss(ids, targets).backward()
        tape = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    model.zero_grad()
    trainer = GPTByHand(model, B, T)
    trainer.step(ids, targets, 0.0)
    tracemalloc.start()
    trainer.step(ids, targets, 0.0)
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gradients = trainer.p.nbytes
    return {"tape": tape / 2**20, "gradients": gradients / 2**20,
            "activations": count_bytes(config, B, T) / 2**20,
            "unshared": sum(b.nbytes for b in activations(config, B, T)) / 2**20,
            "allocated_kib": allocated / 2**10}


def largest_first(shapes, seed):
    """Of so many random shapes: the share for which placing the largest first needs more than the
    fullest moment, and the worst ratio of the two; and their number."""
    rng, ratios = np.random.default_rng(seed), []
    for _ in range(shapes):
        H, T = int(rng.integers(1, 5)), int(rng.integers(1, 70))
        C = H * int(rng.integers(1, 20))
        config = GPTConfig(V=int(rng.integers(2, 9 * C + 5)), T=T, C=C, L=int(rng.integers(1, 7)),
                           H=H)
        found = activations(config, int(rng.integers(1, 6)), T)
        ratios.append(place(sorted(found, key=lambda b: -b.nbytes))[1] / most_alive(found))
    return [float(np.mean(np.array(ratios) > 1)), max(ratios), shapes]


def all_of_it(config, B, T, seed):
    """What run.py reports of one shape: learned and rotary positions, plain and kernels."""
    turned = GPTConfig(**{**vars(config), "rotary": True})
    learned, keys = gradients_apart(config, B, T, seed)
    return {"learned": learned, "rotary": gradients_apart(turned, B, T, seed)[0],
            "plain": gradients_apart(config, B, T, seed, functions=plain)[0], "keys": keys,
            "losses": losses_apart(config, B, T, seed)}
