"""Day 59 · The task: sums of two numbers of two digits, worked out aloud, and a judge of results.

A demonstration says the sum of the units, that of the tens with the carry, then the result: for
37 + 45 "12, 8, so 82". A careless one forgets the carry: "12, 7, so 72". The judge reads only the
result.
"""

import numpy as np

from llm.data.tasks import Task, split
from llm.generate.template import Message
from llm.tune.chat import END, example, prompt_ids

SAID = "so "


def tasks(rng):
    """(train, test): all sums of two numbers 10 … 99, each side in an order of its own."""
    every = [Task(f"{a} + {b} =", str(a + b), "sum") for a in range(10, 100)
             for b in range(10, 100)]
    return tuple([side[i] for i in rng.permutation(len(side))] for side in split(every))


def worked(task, careless=False):
    """The demonstration: "37 + 45 =" -> "12, 8, so 82"; careless: without the carry."""
    (a, x), (b, y) = (divmod(int(number), 10) for number in task.prompt[:-2].split(" + "))
    tens = a + b + (0 if careless else (x + y) // 10)
    return f"{x + y}, {tens}, {SAID}{10 * tens + (x + y) % 10}"


def carries(task):
    """Do its units have a carry?"""
    return worked(task) != worked(task, careless=True)


def reward(task, text):
    """1.0 if the text ends with "so " and the right result, else 0.0; the steps are not read."""
    steps, so, result = text.rpartition(SAID)
    return float(bool(so) and result == task.answer)


def result_only(task, text):
    """1.0 if the text is the right result and nothing else, else 0.0: the rule of `direct`."""
    return float(text == task.answer)


def direct(rng):
    """(train, test): all sums and differences of numbers 0 … 29, as day 53's model answers them."""
    every = [Task(f"{a} {sign} {b} =", str(a + b if sign == "+" else a - b), "sum")
             for a in range(30) for b in range(30) for sign in "+-" if sign == "+" or a >= b]
    return tuple([side[i] for i in rng.permutation(len(side))] for side in split(every))


def ids_of(tokenizer, task):
    """The prompt as the model reads it."""
    return prompt_ids(tokenizer, [Message("user", task.prompt)])


def shown(tokenizer, task, careless=False):
    """The demonstration as an example of day 53: (ids, mask)."""
    return example(tokenizer, [Message("user", task.prompt),
                               Message("assistant", worked(task, careless))])


def judge(tokenizer, random=None, hear=lambda share: None, rule=reward):
    """The score for `experience`: an answer without its end token, cut by the limit, gets 0.

    random: a generator; then rewards are coins with the same share of heads as there would have
    been rewards, whatever the answers say. hear(the share of right answers), in both cases.
    rule(task, text): the reward of a text.
    """
    end = tokenizer.specials[END]

    def score(asked, answers):
        earned = [rule(task, tokenizer.decode(a[:-1])) if len(a) and a[-1] == end else 0.0
                  for task, a in zip(asked, answers, strict=True)]
        hear(float(np.mean(earned)))
        return earned if random is None else np.float64(random.random(len(earned))
                                                        < np.mean(earned))

    return score
