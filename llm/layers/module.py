"""Day 16 · Modules: functions with named parameters.

A Module is a plain object whose attributes may be Tensors (its parameters), NumPy arrays (state
that is saved but not trained), other Modules, or lists of Modules. A name is the path to it:
"blocks.0.attention.project.w". `replace` puts another module at a path, which is how LoRA,
quantised and parallel layers come in later without an edit here. Left out: Tensors in lists or
dicts, and lists in lists; put such parts into a Module of their own.

There is no training flag: what behaves differently in training (dropout) takes an rng, and does
nothing without one.
"""

import math

import numpy as np

from llm.grad import ops
from llm.grad.tensor import Tensor

DEEPEST = 100                # modules within modules; a longer path goes round in a circle


def parameter(array):
    """A Tensor that is trained."""
    return Tensor(array, requires_grad=True)


class Module:
    """Base of all layers: it names the parts, saves and loads their state, and replaces them."""

    def children(self):
        """(name, Module) of each direct part, list members as "blocks.0"."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", m) for i, m in enumerate(value)
                            if isinstance(m, Module))

    def named(self, kind, prefix=""):
        """(path, value) of each attribute of type `kind`, here and below, in order of creation.

        Raises ValueError where a part leads back to a module above it: its path has no end.
        """
        if prefix.count(".") > DEEPEST:
            raise ValueError(f"a part leads back to a module above it: {prefix[:60]}… Keep no "
                             "reference to a parent in a Module; pass it what it needs")
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named(kind, f"{prefix}{name}.")

    def named_parameters(self):
        """{path: Tensor} of the trained parameters; one that is shared appears once."""
        found, seen = {}, set()
        for path, tensor in self.named(Tensor):
            if tensor.requires_grad and id(tensor) not in seen:
                seen.add(id(tensor))
                found[path] = tensor
        return found

    def count_parameters(self):
        """How many numbers are trained."""
        return sum(p.data.size for p in self.named_parameters().values())

    def state_dict(self):
        """{path: array} of all Tensors and arrays: the live ones, not copies."""
        state, seen = {}, set()
        for path, value in self.named((Tensor, np.ndarray)):
            if id(value) not in seen:
                seen.add(id(value))
                state[path] = value.data if isinstance(value, Tensor) else value
        return state

    def load_state_dict(self, state):
        """Copy arrays in; values take this model's dtype.

        Raises ValueError, before anything changes, if names or shapes differ, an entry is not an
        array of real numbers, or fractions are to go into integers.
        """
        mine = self.state_dict()
        missing, unknown = sorted(mine.keys() - state.keys()), sorted(state.keys() - mine.keys())
        if missing or unknown:
            raise ValueError(f"state does not fit this model: missing {missing[:4]}, "
                             f"unknown {unknown[:4]}. Was it saved with another config?")
        given = {}
        for path, array in mine.items():
            given[path] = np.asarray(state[path])
            if array.shape != given[path].shape:
                raise ValueError(f"{path} has shape {array.shape} here and {given[path].shape} "
                                 "in the state. Was it saved with another config?")
            if given[path].dtype.kind not in "fiub":
                raise ValueError(f"{path} holds {given[path].dtype} in the state, not real "
                                 "numbers: the state is damaged")
            if not np.can_cast(given[path].dtype, array.dtype, "same_kind"):
                raise ValueError(f"{path} holds {given[path].dtype} in the state and "
                                 f"{array.dtype} here, where digits would be lost")
        for path, array in mine.items():
            array[...] = given[path]

    def zero_grad(self):
        """Forget all gradients."""
        for tensor in self.named_parameters().values():
            tensor.grad = None

    def get(self, path):
        """What is at a path such as "blocks.0.attention". ValueError where there is nothing."""
        place = self
        for step in path.split("."):
            try:
                place = place[int(step)] if step.isdigit() else getattr(place, step)
            except (AttributeError, IndexError, TypeError):
                raise ValueError(f"no module at {path!r}: stuck at {step!r}") from None
        return place

    def replace(self, path, module):
        """Put `module` at `path` and return the one that was there.

        A module that is shared is replaced at this path only. Raises ValueError where there is no
        module at `path`, `module` is not one, or the path ends in a tuple.
        """
        old = self.get(path)
        if not isinstance(old, Module):
            raise ValueError(f"{path!r} is a {type(old).__name__}, not a module")
        if not isinstance(module, Module):
            raise ValueError(f"cannot put a {type(module).__name__} at {path!r}: its parameters "
                             "would not be found. Make it a Module")
        parent, _, last = path.rpartition(".")
        place = self.get(parent) if parent else self
        if isinstance(place, tuple):
            raise ValueError(f"{parent!r} is a tuple and cannot change: make it a list")
        if last.isdigit():
            place[int(last)] = module
        else:
            setattr(place, last, module)
        return old


class Linear(Module):
    """x (..., Cin) -> x W + b (..., Cout); W (Cin, Cout) ~ N(0, std²), std 1/√Cin unless given."""

    def __init__(self, cin, cout, rng, bias=True, std=None, dtype=np.float32):
        std = 1 / math.sqrt(cin) if std is None else std
        self.w = parameter((std * rng.standard_normal((cin, cout))).astype(dtype))
        self.b = parameter(np.zeros(cout, dtype)) if bias else None

    def __call__(self, x):
        return ops.linear(x, self.w, self.b)


class Embedding(Module):
    """ids (...) of 0 … V−1 -> rows (..., C) of a table (V, C) ~ N(0, std²)."""

    def __init__(self, vocab_size, channels, rng, std=1.0, dtype=np.float32):
        self.table = parameter((std * rng.standard_normal((vocab_size, channels))).astype(dtype))

    def __call__(self, ids):
        return ops.embedding(self.table, ids)
