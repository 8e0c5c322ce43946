"""Day 58 · Train a copy of the reference on pairs, and ask what has become of it."""

import copy
from dataclasses import dataclass

import numpy as np

from llm.align.dpo import best_policy, margin
from llm.align.kl import k1
from llm.align.offline import answer_logps, batches, preference_loss, preferences, with_reference
from llm.align.pairs import encode_pairs
from llm.align.rollout import rollout
from llm.data.preferences import candidates, held_out
from llm.data.taste import COMPLY, DECLINE, FAMILIES, draw_prompt, fillers, utility
from llm.functions.logps import IGNORE
from llm.generate.template import Message
from llm.grad.tensor import no_grad
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import prompt_ids


@dataclass(frozen=True)
class Prompts:
    """Held-out prompts, four families in turn: as many to choose settings on as to report."""

    choose: list
    report: list


def held_out_prompts(n, rng):
    """2n different prompts of the held-out part, the first n to choose on.

    n: a multiple of 4, at most 48, since only 27 harmless requests are held out.
    """
    if not 0 < n <= 48 or n % 4:
        raise ValueError(f"{n} prompts for each half: wanted a multiple of 4, at most 48")
    found = []
    while len(found) < 2 * n:
        prompt = draw_prompt(rng, FAMILIES[len(found) % len(FAMILIES)])
        if held_out(prompt) and prompt not in found:
            found.append(prompt)
    return Prompts(found[:n], found[n:])


def encoded(start, pairs):
    """Pairs of texts -> Preferences with the reference's numbers; and how many were too long."""
    T = start.model.config.T
    rows, left_out = encode_pairs(start.tokenizer, pairs, T + 1)
    return with_reference(start.model, preferences(rows, T), start.model.config.V), left_out


def train(start, pairs, method, rate, steps, seed, B=16, tick=lambda n, note: None, **settings):
    """A copy of the reference, trained on Preferences. Raises KeyboardInterrupt on Ctrl-C."""
    policy = copy.deepcopy(start.model)
    named = policy.named_parameters()
    run = fit(named, preference_loss(policy, method, **settings),
              batches(pairs, B, np.random.default_rng(seed)), AdamW(named, betas=(0.9, 0.99)),
              WarmupCosine(rate, 10), steps=steps, hooks=[lambda s: tick(1, f"loss {s.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    return policy


def logps_of(model, pairs, rows=64):
    """ln π of all answers, chosen (N,) and rejected (N,), nothing recorded."""
    with no_grad():
        found = np.concatenate([answer_logps(model, pairs.ids[i:i + rows],
                                             pairs.targets[i:i + rows]).data
                                for i in range(0, len(pairs.ids), rows)])
    return found[:len(pairs)], found[len(pairs):]


def on_pairs(policy, pairs):
    """How the policy has moved on pairs: margin, order, and both log-probabilities."""
    N, (w, l) = len(pairs), logps_of(policy, pairs)  # noqa: E741
    ref_w, ref_l = pairs.reference[:N], pairs.reference[N:]
    h = margin(w, l, ref_w, ref_l)
    return {"margin": h.mean(), "ordered": (h > 0).mean(), "chosen": (w - ref_w).mean(),
            "rejected": (l - ref_l).mean(), "chosen_falls": (w < ref_w).mean()}


def say_all(model, tokenizer, prompts, rng, A=1, temperature=1.0, n=80):
    """(texts, Rollout): A answers to each prompt, of at most n tokens."""
    asked = [prompt_ids(tokenizer, [Message("user", p)]) for p in prompts]
    room = model.config.T + 1 - max(map(len, asked))
    stop = tokenizer.specials["<|im_end|>"]
    said = rollout(model, asked, min(n, room), rng, temperature, stop, A)
    return [tokenizer.decode(ids[:-1] if ended else ids)
            for ids, ended in zip(said.answers(), said.ended)], said


def drift(policy, start, prompts, seed, A=2):
    """KL(π_ref‖π) in nats: the mean of ln π_ref − ln π over answers sampled from the reference."""
    _, said = say_all(start.model, start.tokenizer, prompts, np.random.default_rng(seed), A)
    return float((said.logps.sum(axis=1) - row_logps(policy, said)).mean())


def row_logps(model, said, rows=64):
    """ln π of every answer of a Rollout, (N,), nothing recorded."""
    with no_grad():
        return np.concatenate([answer_logps(model, said.ids[i:i + rows],
                                            said.targets[i:i + rows]).data
                               for i in range(0, len(said.ids), rows)])


def on_prompts(policy, start, prompts, seed, A=2):
    """What the policy says: mean utility, KL to the reference, length, and what it declines.

    KL(π‖π_ref) in nats an answer: the mean of ln π − ln π_ref over answers sampled from π.
    """
    texts, said = say_all(policy, start.tokenizer, prompts, np.random.default_rng(seed), A)
    kl = k1(said.logps.sum(axis=1), row_logps(start.model, said))
    worth = np.array([utility(prompts[i // A], text) for i, text in enumerate(texts)])
    family = np.array([FAMILIES[i // A % 4] for i in range(len(texts))])
    share = lambda kind, word: float(np.mean([word in t for t, f in zip(texts, family)
                                              if f == kind]))
    return {"utility": worth.mean(), "by_family": {f: worth[family == f].mean() for f in FAMILIES},
            "kl": kl.mean(), "kl_error": kl.std(ddof=1) / len(kl) ** 0.5,
            "tokens": (said.targets != IGNORE).sum(axis=1).mean(),
            "fillers": np.mean([fillers(t) for t in texts]), "ended": said.ended.mean(),
            "declined": share("harmful", DECLINE), "granted_harm": share("harmful", COMPLY),
            "over_refused": share("harmless", DECLINE),
            "drift": drift(policy, start, prompts, seed + 1, A)}


def frontier(prompts, betas):
    """[(β, KL, utility)] of the exact optimum, if the reference said just what `candidates` say."""
    found = []
    for beta in betas:
        kl = worth = 0.0
        for prompt in prompts:
            p, texts = zip(*candidates(prompt), strict=True)
            p, u = np.array(p), np.array([utility(prompt, t) for t in texts])
            best = best_policy(p, u, beta)
            at = best > 0
            kl += (best[at] * np.log(best[at] / p[at])).sum() / len(prompts)
            worth += best @ u / len(prompts)
        found.append((beta, kl, worth))
    return found
