"""Day 57 · PPO: a policy with a value head, a clipped loss, and rounds of experience for `fit`.

There is no loop of its own: `experience` is the iterator of batches that `fit` (day 35) takes. It
samples answers from the model as it is at that moment, has them scored, and hands them out a few
times before it samples again. Left out: a clipped value loss, an entropy bonus, a value model of
its own.
"""

from dataclasses import dataclass

import numpy as np

from llm.align.advantage import gae, last_tokens, token_rewards, whiten
from llm.align.kl import k1, k3
from llm.align.rollout import rollout
from llm.functions.logps import IGNORE, token_logps, token_logps_vjp
from llm.grad.tensor import no_grad, primitive
from llm.layers.module import Linear, Module


def clipped(logps, old, advantages, targets, clip=0.2):
    """−mean min(r·A, clip(r, 1 − ε, 1 + ε)·A) over the tokens that count, r = exp(logps − old).

    All (N, T); old: log-probabilities under the policy that has sampled; targets: −100 where
    nothing counts. Returns a scalar of the type of logps (0 if nothing counts) and the slope.
    About 10 FLOPs and one exp a token. A ratio that overflows makes the loss infinite, and `fit`
    skips the step. Raises ValueError on shapes that differ or a clip below 0.
    Source: Schulman et al. (2017), eq. 7.
    """
    if not logps.shape == old.shape == advantages.shape == targets.shape or not clip >= 0:
        raise ValueError(f"clipped: logps {logps.shape}, old {old.shape}, advantages "
                         f"{advantages.shape} and targets {targets.shape} must have one shape, "
                         f"and clip {clip} be at least 0")
    counted = targets != IGNORE
    count = max(int(counted.sum()), 1)
    with np.errstate(over="ignore", invalid="ignore"):                  # ∞, and ∞·0
        ratio = np.exp(logps - old)
        plain = ratio * advantages
        held = np.clip(ratio, 1 - clip, 1 + clip) * advantages
        slope = np.where(counted & ~(plain > held), -plain / count, 0).astype(logps.dtype)
    loss = -np.minimum(plain, held)[counted].sum(dtype=np.float64) / count
    return np.asarray(loss, logps.dtype), (slope,)


def clipped_vjp(dout, slope):
    """d(r·A)/dlogp = r·A where the plain term is the smaller one, 0 where the clipped one is."""
    return dout * slope, None, None, None


surrogate = primitive(clipped, clipped_vjp)
answer_logps = primitive(token_logps, token_logps_vjp)


class Policy(Module):
    """A language model and, on the same hidden states, a number: the reward still to come.

    body: a GPT or Llama, trained and not copied. The value head starts at 0.
    """

    def __init__(self, body, rng):
        self.body = body
        self.value = Linear(body.config.C, 1, rng, std=0.0, dtype=body.embed.table.dtype)

    def __call__(self, ids, targets):
        """ids, targets (N, T) -> log-probabilities of the targets and values, two (N, T)."""
        hidden = self.body.hidden(ids)                                  # (N, T, C)
        logps = answer_logps(self.body.logits(hidden), targets)
        return logps, self.value(hidden).reshape(*ids.shape)


@dataclass(frozen=True)
class PPO:
    """The settings of a round."""

    N: int = 64                # answers sampled in a round
    n: int = 48                # tokens of an answer, at most
    epochs: int = 2            # how often each answer is learned from
    parts: int = 2             # batches that a round is cut into, in each epoch
    clip: float = 0.2          # ε
    gamma: float = 1.0         # discount: the reward of a long answer counts as much
    lam: float = 0.95          # λ of the advantage
    value_weight: float = 0.1  # of the value's squared error in the loss

    @property
    def updates(self):
        """Steps of `fit` in one round."""
        return self.epochs * self.parts


@dataclass(frozen=True)
class Experience:
    """N answers and what is to be learned from them, each (N, T)."""

    ids: np.ndarray
    targets: np.ndarray
    logps: np.ndarray          # under the policy that has sampled them
    advantages: np.ndarray     # whitened; 0 outside of the answers
    returns: np.ndarray        # what the value head should have said

    def rows(self, chosen):
        """The answers with these numbers."""
        return Experience(*(array[chosen] for array in vars(self).values()))


@dataclass(frozen=True)
class Report:
    """What a round has brought, on average over its answers."""

    score: float               # as `score` gave it
    kl: float                  # nats an answer from the reference: k1 summed over its tokens
    k3: float                  # the same by the other estimator
    beta: float                # the KL coefficient of this round
    length: float              # tokens
    ended: float               # share of answers that were not cut
    mismatch: float            # largest distance of the sampler's log-probabilities from training's


def appraise(policy, reference, taken, scores, beta, settings):
    """Rollout and scores (N,) -> Experience, Report: one more forward of policy and reference."""
    counted = taken.targets != IGNORE
    with no_grad():
        logps, values = (x.data for x in policy(taken.ids, taken.targets))
        known = token_logps(reference(taken.ids).data, taken.targets)[0]
    values = np.where(counted, values, 0)
    rewards = token_rewards(scores, taken.logps, known, taken.targets, beta)
    advantages = gae(rewards, values, last_tokens(taken.targets), settings.gamma, settings.lam)
    mean = lambda estimates: float(np.where(counted, estimates, 0).sum(axis=1).mean())
    return (Experience(taken.ids, taken.targets, taken.logps, whiten(advantages, counted),
                       np.where(counted, advantages + values, 0)),
            Report(float(np.mean(scores)), mean(k1(taken.logps, known)),
                   mean(k3(taken.logps, known)), float(beta), mean(counted),
                   float(taken.ended.mean()), float(np.abs(logps - taken.logps).max(initial=0))))


def experience(policy, reference, draw, score, settings, controller, rng, stop=None, hook=None):
    """An endless iterator of Experience for `fit`, `settings.updates` of them a round.

    draw(N) -> N pairs (prompt ids, anything), score([anything], [answer ids]) -> N numbers.
    controller: holds `beta` and is told the KL after each round's sampling (AdaptiveKL); then
    hook(Report) is called.
    Raises ValueError, at once, if policy and reference have vocabularies of different size.
    """
    ours, theirs = policy.body.config, reference.config
    if ours.V != theirs.V or theirs.T < ours.T:
        raise ValueError(f"the policy has a vocabulary of {ours.V} and reads {ours.T} ids, the "
                         f"reference has {theirs.V} and reads {theirs.T}: their log-probabilities "
                         "cannot be compared. Start the policy as a copy of its reference")
    return rounds(policy, reference, draw, score, settings, controller, rng, stop, hook)


def rounds(policy, reference, draw, score, settings, controller, rng, stop, hook):
    """The generator behind `experience`: each round runs when `fit` asks for its first batch."""
    while True:
        prompts, about = zip(*draw(settings.N), strict=True)
        taken = rollout(policy.body, prompts, settings.n, rng, stop=stop)
        scores = np.asarray(score(list(about), taken.answers()), np.float64)
        learned, report = appraise(policy, reference, taken, scores, controller.beta, settings)
        controller.update(report.kl)
        if hook is not None:
            hook(report)
        for _ in range(settings.epochs):
            for chosen in np.array_split(rng.permutation(len(scores)), settings.parts):
                yield learned.rows(chosen)


def loss(policy, settings):
    """The loss for `fit`: Experience -> (clipped loss + weighted error of the value, tokens)."""
    def of_batch(batch):
        counted = batch.targets != IGNORE
        count = int(counted.sum())
        logps, values = policy(batch.ids, batch.targets)
        error = (values - batch.returns) * counted.astype(values.dtype)
        policy_loss = surrogate(logps, batch.logps, batch.advantages, batch.targets,
                                clip=settings.clip)
        return policy_loss + (error * error).sum() * (settings.value_weight / 2 / max(count, 1)), \
            count

    return of_batch
