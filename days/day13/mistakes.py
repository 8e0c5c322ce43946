"""Day 13 · Mistakes with a tape that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="A gradient is set, not added",
        file="llm/grad/scalar.py",
        right="parent.grad = parent.grad + slope * node.grad",
        wrong="parent.grad = slope * node.grad",
        symptom="a·b has the right gradients, a·a has half of its own."),
    Mistake(
        title="The backward sweep runs in forward order",
        file="llm/grad/scalar.py",
        right="for node in reversed(nodes):",
        wrong="for node in nodes:",
        symptom="One operation works; in anything longer all leaves keep a gradient of 0."),
    Mistake(
        title="The leaves are cleared instead of what lies between",
        file="llm/grad/scalar.py",
        right="            if node.parents:",
        wrong="            if not node.parents:",
        symptom="A second backward gives other numbers, and gradients of a batch don't add up."),
    Mistake(
        title="The derivative of tanh without its square",
        file="llm/grad/scalar.py",
        right="(1.0 - y * y,)",
        wrong="(1.0 - y,)",
        symptom="The network trains, but worse than it should; no error anywhere."),
]

EQUIVALENT = [
    ("llm/models/vowels.py", "for wi, xi in zip(x, w):", "a product has no order"),
]
