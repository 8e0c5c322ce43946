"""Day 15 · Mistakes with a tape of tensors that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="What arrives second replaces what arrived first",
        file="llm/grad/walk.py",
        right="arrived[id(parent)] = accumulate(arrived.get(id(parent)), g, fresh)",
        wrong="arrived[id(parent)] = g, fresh",
        symptom="A plain chain of layers trains; with a residual connection it gets worse."),
    Mistake(
        title="Every array is taken for one's own",
        file="llm/grad/walk.py",
        right="    return g.base is None and sum(a is g or",
        wrong="    return g.base is None or sum(a is g or",
        symptom="A parameter that only adds something gets the gradient of its neighbour, too."),
    Mistake(
        title="A leaf keeps the array it was handed",
        file="llm/grad/walk.py",
        right='leaf.grad = np.asarray(g) if owned else np.array(g, order="C")',
        wrong="leaf.grad = np.asarray(g)",
        symptom="Two biases behind one addition are clipped twice, and nobody else is."),
    Mistake(
        title="The record outlives the walk",
        file="llm/grad/walk.py",
        right="        self.vjp, self.saved, self.parents = None, (), ()",
        wrong="        self.vjp = None",
        symptom="Gradients are right, but memory does not fall while backward walks."),
    Mistake(
        title="The end of the block is forgotten when an error leaves it",
        file="llm/grad/lowering.py",
        right="    try:\n        yield\n    finally:\n        _twins.reset(token)",
        wrong="    yield\n    _twins.reset(token)",
        symptom="After one failed run in a notebook everything is computed by the twin for ever."),
]

EQUIVALENT = [
    ("llm/grad/tensor.py",
     "return value if isinstance(value, Tensor) else real(value).astype(tensor.dtype, copy=True)",
     "a copy of a constant costs memory and time alone"),
]
