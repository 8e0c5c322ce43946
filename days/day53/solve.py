"""Day 53 · Asking a model: its answers to messages and to tasks, with the calculator at hand."""

from llm.data.tasks import calculate, correct
from llm.generate.architecture import gpt_weights
from llm.generate.engine import Engine
from llm.generate.stream import Stream
from llm.generate.template import Message
from llm.tune.chat import END, prompt_ids


class Speaker:
    """Greedy answers of a model, through day 43's engine. template: None is plain ChatML."""

    def __init__(self, arch, weights, tokenizer, template=None, T_max=None):
        self.engine = Engine(arch, weights, T_max=T_max)
        self.tokenizer, self.template = tokenizer, template

    @classmethod
    def of(cls, reader):
        """Of what `base` or `tuned` return."""
        return cls(*gpt_weights(reader.model.state_dict(), reader.config), reader.tokenizer)

    def answer(self, messages, n=60):
        """What the assistant says, up to its end token, n tokens or a full window."""
        return self.go_on(prompt_ids(self.tokenizer, messages, self.template), n,
                          ends={self.tokenizer.specials[END]})

    def go_on(self, ids, n, **options):
        """Plain completion of ids."""
        self.engine.reset()
        greedy = lambda logits, so_far: int(logits.argmax())
        return "".join(Stream(self.engine, self.tokenizer, ids, n, greedy, **options))

    def solve(self, task):
        """The conversation about a task, [Message, …]: where the model calls, the run answers."""
        messages = [Message("user", task.prompt)]
        messages.append(Message("assistant", self.answer(messages)))
        result = calculate(messages[-1].content)
        if result is not None:
            messages.append(Message("user", f"result: {result}"))
            messages.append(Message("assistant", self.answer(messages)))
        return messages

    def accuracy(self, tasks, tick=lambda n: None):
        """The share of tasks whose last answer is right."""
        right = 0
        for task in tasks:
            right += correct(task, self.solve(task)[-1].content)
            tick(1)
        return right / len(tasks)


def distinct(test, family, n):
    """The first n different tasks of a family."""
    return list(dict.fromkeys(t for t in test if t.family == family))[:n]


def right_call(speaker, task):
    """Did the model ask the calculator for what the task is about?"""
    call = task.prompt.removeprefix("What is ").removesuffix("?")
    return speaker.solve(task)[1].content == f"calc: {call}"
