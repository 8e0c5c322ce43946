"""Day 20 · Does the start matter to training? A deep window model from weights of several gains."""

import numpy as np

from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws, log_probabilities, train
from llm.train.adam import AdamW

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64


class Trainer:
    """Trains on `seen` and scores on `unseen`, arrays of ids; every start sees the same batches."""

    def __init__(self, vocab_size, seen, unseen, layers, steps):
        self.vocab_size, self.seen, self.unseen = vocab_size, seen, unseen
        self.layers, self.steps = layers, steps

    def nats(self, gain, rate, seed):
        """Nats a character on unseen text after training from weights of one gain."""
        model = DeepWindow(self.vocab_size, CONTEXT, CHANNELS, HIDDEN, self.layers,
                           np.random.default_rng(seed), gain=gain)
        optimizer = AdamW(model.named_parameters(), decay=0.0)
        train(model, draws(self.seen, CONTEXT, BATCH, np.random.default_rng(seed + 1000)), rate,
              steps=self.steps, update=lambda _, r: optimizer.step(r))
        return -float(log_probabilities(model, self.unseen).mean())


def best_of(found, rates):
    """{rate: [nats of each seed]} -> [best rate, mean, spread over seeds, is it at the edge?]."""
    rate = min(rates, key=lambda r: np.mean(found[r]))
    nats = np.array(found[rate])
    return [rate, float(nats.mean()), float(nats.std(ddof=1)) if len(nats) > 1 else 0.0,
            rate in (rates[0], rates[-1])]
