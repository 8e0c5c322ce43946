"""Day 23 · Seven runs: one is healthy, and six are broken on purpose, each in one way."""

from dataclasses import dataclass, replace

import numpy as np

from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.layers.recurrent import RNN
from llm.models.deep_window import DeepWindow
from llm.models.gru import RecurrentLM
from llm.models.neural_ngram import draws, train
from llm.models.window import windows
from llm.train import recurrent
from llm.train.adam import AdamW
from llm.train.probe import Probe
from llm.train.schedule import WarmupCosine

T, C, HIDDEN, LAYERS, B = 8, 16, 64, 3, 32


@dataclass(frozen=True)
class Patient:
    """What a run is made of; the defaults are healthy."""

    name: str = "healthy"
    network: str = "tanh"          # "relu", or "recurrent"
    rate: float = 4e-3             # of AdamW, after a warmup of 20 steps
    gain: float = 1.0              # of the weights at the start
    bias: float = 0.0              # of the hidden units at the start
    order: str = "random"          # "sequence": one after the other; "rolled": rows exchanged
    text: str = "play"             # "sorted": its lines in alphabetical order
    clip: float = 1.0              # the longest gradient; recurrent network only
    memory: float = 1.0            # what the recurrent matrix is multiplied by at the start


HEALTHY = [Patient(), Patient("healthy, ReLU", "relu"),
           Patient("healthy, recurrent", "recurrent")]
BROKEN = [Patient("rate too high", rate=0.4), Patient("dead units", "relu", bias=-2.0),
          Patient("bad start", gain=6.0),
          Patient("targets do not belong to inputs", order="rolled"),
          Patient("batches in order", order="sequence", text="sorted"),
          Patient("exploding gradient", "recurrent", clip=1e9, memory=3.0)]


class ReLUWindow(DeepWindow):
    """Day 19's deep window model with ReLU instead of tanh."""

    def activations(self, ids, **options):
        h = self.embed(ids).reshape(*np.shape(ids)[:-1], self.layers[0].w.shape[0])
        outputs = []
        for layer in self.layers:
            h = ops.relu(layer(h))
            outputs.append(h)
        return outputs


def run(patient, ids, V, seed, steps, every=10, batches=None):
    """Train the patient under a probe -> (probe, model)."""
    rng, probe = np.random.default_rng(seed), Probe(every)
    if patient.network == "recurrent":
        return probe, recur(patient, ids, V, rng, steps, probe)
    kind = ReLUWindow if patient.network == "relu" else DeepWindow
    gain = patient.gain * (2 ** 0.5 if kind is ReLUWindow else 1.0)
    model = kind(V, T, C, HIDDEN, LAYERS, rng, gain=gain)
    model.out.w.data *= patient.gain ** 2
    for layer in model.layers:
        layer.b.data += np.float32(patient.bias)
    optimizer = AdamW(model.named_parameters())
    with probe.activations():
        train(model, batches or feed(patient.order, ids, rng), WarmupCosine(patient.rate, 20),
              steps=steps, watch=probe.watch,
              update=probe.update(lambda parameters, rate: optimizer.step(rate)))
    return probe, model


def recur(patient, ids, V, rng, steps, probe):
    """The recurrent patient: day 22's loop, and an optimizer under the probe."""
    model = RecurrentLM(V, HIDDEN, 1, rng, RNN)
    model.layers[0].wh.data *= np.float32(patient.memory)
    optimizer = probe.optimizer(AdamW(model.named_parameters()))
    recurrent.train(model, recurrent.streams(ids[int(rng.integers(1000)):], B, 32), optimizer,
                    WarmupCosine(patient.rate, 20), clip=patient.clip, steps=steps,
                    watch=probe.watch)
    return model


def feed(order, ids, rng):
    """Endless (contexts (B, T), targets (B,))."""
    if order == "sequence":
        contexts, targets = windows(ids, T)
        at = int(rng.integers(len(targets)))
        while True:
            rows = np.arange(at, at + B) % len(targets)
            yield contexts[rows], targets[rows]
            at += B
    for x, y in draws(ids, T, B, rng):
        yield x, np.roll(y, 1) if order == "rolled" else y


def random_loss(model, patient, ids, seed, n=2000):
    """The model's loss on n windows of its training text, drawn at random; targets as in training.

    The recurrent one is asked for n/32 windows of 32 tokens.
    """
    rng = np.random.default_rng([seed, 7])
    with no_grad():
        if patient.network == "recurrent":
            starts = rng.integers(0, len(ids) - 33, max(1, n // 32))
            rows = ids[starts[:, None] + np.arange(33)]
            return float(model.loss(rows[:, :-1], rows[:, 1:])[0].data)
        contexts, targets = next(draws(ids, T, n, rng))
        targets = np.roll(targets, 1) if patient.order == "rolled" else targets
        return float(ops.cross_entropy(model(contexts), targets).data)


def one_batch(patient, ids, V, seed, steps):
    """The losses where one batch is shown again and again: it should be learned by heart."""
    batch = next(feed(patient.order, ids, np.random.default_rng([seed, 5])))
    probe, _ = run(patient, ids, V, seed, steps, steps, iter(lambda: batch, None))
    return probe.losses


def weaker(patient, rate):
    """The same at another rate."""
    return replace(patient, rate=rate)
