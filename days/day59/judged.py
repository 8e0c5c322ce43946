"""Day 59 · What a model can do on a list of sums: greedy, pass@k, by carry, and its steps."""

import numpy as np

from days.day59 import adding
from llm.align.pass_at_k import pass_at_k
from llm.align.rollout import rollout
from llm.functions.logps import IGNORE, token_logps
from llm.grad.tensor import no_grad
from llm.tune.chat import END

KS = 1, 2, 4, 8, 16                # of pass@k


def evaluate(start, model, tasks, n, seed, longest, rule=adding.reward):
    """A dict from one greedy answer and n samples at temperature 1 to each task.

    greedy: share of right ones. pass: [pass@k for each k of KS up to n]. never: share of tasks
    without a right sample. kl: from the start, nats an answer. tokens: of a sample. said: the
    greedy answers. With the rule of worked sums also what `by_carry` finds.
    """
    ids, tok = [adding.ids_of(start.tokenizer, task) for task in tasks], start.tokenizer
    score, end = adding.judge(tok, rule=rule), tok.specials[END]
    best = rollout(model, ids, longest, np.random.default_rng(0), temperature=0, stop=end)
    many = rollout(model, ids, longest, np.random.default_rng([seed, 592]), stop=end, A=n)
    answers, greedy = many.answers(), score(tasks, best.answers())
    right = np.reshape(score([t for t in tasks for _ in range(n)], answers), (-1, n)) == 1
    with no_grad():
        known = token_logps(start.model(many.ids).data, many.targets)[0]
    counts = right.sum(axis=1)
    found = {"greedy": float(np.mean(greedy)),
             "pass": [float(pass_at_k(counts, n, k).mean()) for k in KS if k <= n],
             "never": share(counts == 0),
             "kl": float((many.logps - known).sum(axis=1).mean()),
             "tokens": float((many.targets != IGNORE).sum(axis=1).mean()),
             "said": [tok.decode(a[a != end]) for a in best.answers()]}
    if rule is adding.reward:
        texts = np.reshape([tok.decode(a[a != end]) for a in answers], right.shape)
        found |= by_carry(tasks, texts, right)
    return found


def by_carry(tasks, texts, right):
    """texts, right (tasks, n): what was said to sums, and whether it was right -> a dict of shares.

    without, with: right answers where there is no carry, or one. forgot: of the answers with one,
    those that are the careless demonstration. clean: of the right answers, those that are the
    demonstration word for word.
    """
    carry = np.array([adding.carries(task) for task in tasks])
    is_text = lambda careless: texts == np.array(
        [[adding.worked(task, careless)] for task in tasks])        # (tasks, n)
    return {"without": share(right[~carry]), "with": share(right[carry]),
            "forgot": share(is_text(True)[carry]), "clean": share(is_text(False)[right])}


def share(those):
    """How many of an array of booleans are True; 0 of none."""
    return float(those.mean()) if those.size else 0.0
