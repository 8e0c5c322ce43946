"""Day 39 · GPT by hand: the training step of day 34's GPT without a tape, in one arena.

    trainer = GPTByHand(model, B=12, T=64)
    loss = trainer.step(ids, targets, rate)         # forward, backward, clipping, AdamW

The model's parameters move into the arena and stay the model's: it can be validated, sampled from
and saved as before. Each worker (a thread) takes its share of the sequences through the whole
forward and backward, so that threads meet three times a step and not after every product.
Left out: dropout, gradient accumulation, other blocks than day 34's, a state to resume from.
"""

import math
from concurrent.futures import ThreadPoolExecutor, wait

import numba
import numpy as np

from llm.kernels import by_hand as kernels
from llm.kernels.threads import cores
from llm.models.by_hand import text
from llm.models.by_hand.arena import LINE, Arena, padded
from llm.models.by_hand.buffers import activations, count_bytes, views
from llm.models.by_hand.checks import check_batch, check_model
from llm.models.by_hand.weights import named_alike, position_tables
from llm.tensors.roofline import Blas


def matrices(name, p):
    """Is this parameter decayed? Matrices are, embeddings are not, as in day 18's AdamW."""
    return p.ndim >= 2 and not name.endswith("table")


class GPTByHand:
    """Trains `model`, a GPT of day 34, on up to B sequences of up to T tokens a step.

    workers: threads, each with B / workers sequences; by default as many as there are cores. With
    one worker the BLAS keeps the threads it has, with more it is told to use one in each.
    functions: what does the work, kernels/by_hand.py, or by_hand/plain.py (any float type).
    clip: the longest norm of a gradient, or None. The rest as in day 18's AdamW.
    After a step: .norm of the gradient before clipping, .skipped steps where it was not finite.
    Raises ValueError where the model is no plain GPT, has dropout, or B, T, workers do not fit it.
    """

    def __init__(self, model, B, T, *, workers=None, functions=kernels, clip=1.0,
                 betas=(0.9, 0.999), eps=1e-8, decay=0.01, decays=matrices):
        workers = min(B, cores(), numba.get_num_threads()) if workers is None else workers
        check_model(model, B, T, workers, functions)
        self.model, self.config, self.f = model, model.config, functions
        self.B, self.T, self.workers = B, T, workers
        self.clip, self.betas, self.eps = math.inf if clip is None else clip, betas, eps
        self.decay = decay
        self.t, self.norm, self.skipped, self.shape = 0, 0.0, 0, None
        self.dtype = model.embed.table.dtype
        parameters = model.named_parameters()
        decayed = {name for name, p in parameters.items() if decays(name, p)}
        self.order = sorted(parameters, key=lambda name: name not in decayed)     # those first
        self.lay_out(parameters, decayed)
        self.blas = Blas()
        self.pool = ThreadPoolExecutor(workers - 1) if workers > 1 else None

    def lay_out(self, parameters, decayed):
        """Make the arena and move the parameters into it."""
        numbers = {name: padded(parameters[name].data.nbytes) // self.dtype.itemsize
                   for name in self.order}
        starts = dict(zip(self.order, np.cumsum([0, *numbers.values()]).tolist()))
        self.first_free = sum(numbers[name] for name in decayed)      # from here on: not decayed
        P, size = sum(numbers.values()), self.dtype.itemsize
        self.part = count_bytes(self.config, -(-self.B // self.workers), self.T, size)
        self.start = padded(self.B * self.T) + (3 + self.workers) * P * size
        self.arena = Arena(self.start + self.workers * self.part)
        flat = self.arena.view(padded(self.B * self.T), (3 + self.workers, P), self.dtype)
        self.p, self.m, self.v, self.g = flat[0], flat[1], flat[2], flat[3:]

        def arrays(vector):
            return {name: vector[starts[name]:starts[name] + p.data.size].reshape(p.shape)
                    for name, p in parameters.items()}

        self.weights, self.gradients = arrays(self.p), [arrays(g) for g in self.g]
        for name, p in parameters.items():
            self.weights[name][...] = p.data
            p.data = self.weights[name]

    def shape_to(self, B, T):
        """Make views for batches of B sequences of T tokens; the workers share the B sequences."""
        if self.shape == (B, T):
            return
        active = min(self.workers, B)
        self.shape, self.w = (B, T), named_alike(self.weights, self.config, T)
        self.w.cos, self.w.sin = position_tables(self.model, T)
        self.w.eps, self.w.factor = self.model.norm.eps, (self.config.C // self.config.H) ** -0.5
        self.rows = [slice(B * r // active, B * (r + 1) // active) for r in range(active)]
        self.g_named, self.s = [], []
        for r, rows in enumerate(self.rows):
            self.g[r] = 0                               # positions past T get no gradient
            self.g_named.append(named_alike(self.gradients[r], self.config, T))
            n = rows.stop - rows.start
            self.s.append(views(self.arena, self.start + r * self.part,
                                activations(self.config, n, T, self.dtype), self.config, n, T))
        lines = self.p.nbytes // LINE
        cuts = [lines * r // active * (LINE // self.dtype.itemsize) for r in range(active + 1)]
        self.cuts = list(zip(cuts, cuts[1:]))

    def step(self, ids, targets, rate):
        """One step on ids, targets (B, T) -> the loss before it, in nats a target.

        Where a target is −100 nothing is asked. A gradient that is not finite changes nothing.
        Raises ValueError for other shapes, more than the arena was made for, or ids outside 0 …
        V − 1, before anything is changed.
        """
        if self.model.embed.table.data is not self.weights["embed.table"]:
            raise ValueError("the model's parameters are no longer those of this arena: make a "
                             "new GPTByHand(model, …)")
        count = max(check_batch(ids, targets, self.B, self.T, self.config.V,
                                lambda shape: self.arena.view(0, shape, bool)), 1)
        self.shape_to(*ids.shape)
        before = self.blas.threads()
        if len(self.rows) > 1:
            self.blas.set_threads(1)
        try:
            loss = sum(self.each(self.gradient, ids, targets, count))
            self.norm = math.sqrt(sum(self.each(self.collect)))
            if math.isfinite(self.norm):
                self.t += 1
                self.each(self.update, rate, min(1.0, self.clip / max(self.norm, 1e-300)))
            else:
                self.skipped += 1
        finally:
            if len(self.rows) > 1 and before:
                self.blas.set_threads(before)
        return loss

    def each(self, work, *arguments):
        """[work(r, *arguments) for each worker r], at the same time; the workers meet here."""
        others = [self.pool.submit(work, r, *arguments) for r in range(1, len(self.rows))]
        try:
            first = work(0, *arguments)
        finally:
            wait(others)                     # after an error, too: the arena is theirs until then
        return [first, *(future.result() for future in others)]

    def gradient(self, r, ids, targets, count):
        """Worker r's share of the loss; its share of the gradient is in self.g[r]."""
        s, rows = self.s[r], self.rows[r]
        s.ids.reshape(-1, self.shape[1])[...] = ids[rows]
        s.targets.reshape(-1, self.shape[1])[...] = targets[rows]
        loss = text.forward(self.f, self.w, s, count)
        text.backward(self.f, self.w, self.g_named[r], s)
        return loss

    def collect(self, r):
        """Add up all workers' gradients in the r-th piece of the parameters; returns its Σ g²."""
        low, high = self.cuts[r]
        return self.f.add_squares(self.g[0, low:high], self.g[1:len(self.rows), low:high])

    def update(self, r, rate, clip):
        """AdamW on the r-th piece: first what is decayed, then what is not."""
        low, high = self.cuts[r]
        middle, (beta1, beta2) = min(max(low, self.first_free), high), self.betas
        for piece, decay in ((slice(low, middle), self.decay), (slice(middle, high), 0.0)):
            self.f.adamw(self.p[piece], self.g[0, piece], self.m[piece], self.v[piece], clip,
                         rate / (1 - beta1**self.t), 1 - rate * decay, beta1, beta2,
                         1 / math.sqrt(1 - beta2**self.t), self.eps)

    def train(self, batches, schedule, steps):
        """`steps` steps on (ids, targets) from an iterator, at schedule(step, steps) -> losses."""
        return [self.step(*next(batches), schedule(step, steps)) for step in range(1, steps + 1)]
