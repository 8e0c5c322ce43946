"""Day 53 · Tasks with answers that a program can check: sums, stories, a calculator.

Made from seeds, small and varied. A task is a prompt, one good answer and its family; `correct`
judges any answer, `split` keeps instances for testing that training never sees. Left out: tasks
whose answers only people can judge.
"""

import hashlib
import re
from dataclasses import dataclass

from llm.data.stories import stories

OPENING = re.compile(r"(.*? a \w+ (\w+) named (\w+)\. \w+ lived in ([^.]+)\. "
                     r"[^.]* (\w+) (\w+)\.) One ")
CALL = re.compile(r"calc: (-?\d+) ([-+*]) (-?\d+)")
NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Task:
    """What is asked, an answer that is right, and the family: "sum", "question", "story" or
    "calculator"."""

    prompt: str
    answer: str
    family: str


def sums(n, rng, largest=99):
    """n sums and differences of numbers 0 … largest, none below 0: Task("37 + 45 =", "82", "sum").

    Raises ValueError where n or largest is negative.
    """
    return [Task(f"{a} {sign} {b} =", answer, "sum")
            for a, sign, b, answer in arithmetic(n, rng, largest, "+-")]


def calculator_tasks(n, rng, largest=999):
    """n questions that are meant for the calculator: Task("What is 374 * 58?", "21692", …)."""
    return [Task(f"What is {a} {sign} {b}?", answer, "calculator")
            for a, sign, b, answer in arithmetic(n, rng, largest, "+-*")]


def arithmetic(n, rng, largest, signs):
    """Yield n times (a, sign, b, answer), a ≥ b in differences."""
    if n < 0 or largest < 0:
        raise ValueError(f"{n} tasks with numbers up to {largest}: neither may be negative")
    for _ in range(n):
        a, b = (int(x) for x in rng.integers(0, largest + 1, size=2))
        sign = signs[rng.integers(len(signs))]
        if sign == "-":
            a, b = max(a, b), min(a, b)
        yield a, sign, b, calculate(f"calc: {a} {sign} {b}")


def story_tasks(n, rng):
    """n instructions over day 07's stories: one in four "Tell a story about …", else a question
    about the beginning of a story, which stands in the prompt."""
    return [story_task(*OPENING.match(line).groups(), rng)
            for line in stories(n, rng).splitlines()]


def story_task(opening, kind, name, home, colour, toy, rng):
    """One Task from the facts of a story's opening."""
    questions = [(f"Who lives in {home}?", name), (f"Where does {name} live?", f"in {home}"),
                 (f"What colour is the {toy}?", colour),
                 (f"What does {name} have?", f"a {colour} {toy}"),
                 (f"Who is {name}?", f"a {kind}")]
    if rng.integers(4) == 0:
        return Task(f"Tell a story about a {kind} named {name} and a {colour} {toy}.", opening,
                    "story")
    question, answer = questions[rng.integers(len(questions))]
    return Task(f"{opening}\n{question}", answer, "question")


def correct(task, text):
    """Is this text a right answer?

    Sums: the first whole number in it is the answer. Questions: the answer, a full stop allowed.
    Stories: one line that begins and ends as stories do and has the hero and the toy.
    """
    text = text.strip()
    if task.family in ("sum", "calculator"):
        found = NUMBER.search(text)
        return found is not None and int(found.group()) == int(task.answer)
    if task.family == "question":
        return text.removesuffix(".") == task.answer
    wanted = OPENING.match(task.answer + " One ").groups()[1:]
    got = OPENING.fullmatch(text + " One ")
    kind, name, _, colour, toy = got.groups()[1:] if got else [None] * 5
    return (kind, name, colour, toy) == (wanted[0], wanted[1], wanted[3], wanted[4])


def calculate(text):
    """The calculator: "calc: 374 * 58" -> "21692"; None for a text that is no such call."""
    call = CALL.fullmatch(text.strip())
    if call is None:
        return None
    a, b = int(call.group(1)), int(call.group(3))
    return str({"+": a + b, "-": a - b, "*": a * b}[call.group(2)])


def turns(task):
    """[(role, content), …] of a conversation that solves the task.

    The calculator takes four turns: the question, the model's call, the result (given to the model
    as a user's message), the model's answer from it.
    """
    if task.family != "calculator":
        return [("user", task.prompt), ("assistant", task.answer)]
    call = "calc: " + task.prompt.removeprefix("What is ").removesuffix("?")
    return [("user", task.prompt), ("assistant", call), ("user", f"result: {calculate(call)}"),
            ("assistant", f"It is {task.answer}.")]


def split(tasks, share=0.1):
    """(train, test): a task is in test if a hash of its content falls into this share of all.

    The same task is always on the same side, whatever list it comes in, and so is whatever has the
    same content: 45 + 37 is 37 + 45, with the calculator or without, and all questions about one
    story are one content.
    Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the test must be in [0, 1], not {share}")
    train, test = [], []
    for task in tasks:
        digest = hashlib.sha256(content(task).encode()).digest()[:8]
        (test if int.from_bytes(digest) < share * 2**64 else train).append(task)
    return train, test


def content(task):
    """What makes two tasks the same: the story, the request for one, or numbers and sign."""
    if task.family in ("sum", "calculator"):
        return " ".join(sorted(re.findall(r"\d+|[-+*]", task.prompt)))
    return task.prompt.partition("\n")[0]
