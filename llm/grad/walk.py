"""Day 15 · The walk back: from the loss to the leaves, each operation after all that used it.

The record is a graph of Nodes, one an operation. A Node leads to the Nodes its inputs came from
and holds what its VJP saved, nothing else: an output that no VJP needs is free to go. The walk is
iterative (a chain of 10,000 operations must not meet Python's recursion limit), and it uses the
record up, so memory falls on the way. Left out: walking one record twice.
"""

import numpy as np

from llm.grad.lowering import lowerable


class Node:
    """How one Tensor was made: `vjp(dout, *saved)` gives a gradient for each of `parents`.

    parents: for each input the Node that made it, or the Tensor itself where it is a leaf, or
    None where no gradient is wanted. shape, dtype: those of the gradient that is to arrive.
    """

    __slots__ = ("name", "vjp", "saved", "parents", "shape", "dtype")

    def __init__(self, name, vjp, saved, parents, shape, dtype):
        self.name, self.vjp, self.saved, self.parents = name, vjp, saved, parents
        self.shape, self.dtype = shape, dtype

    def use_up(self):
        """Hand out (vjp, saved, parents) and keep none of them."""
        record = self.vjp, self.saved, self.parents
        self.vjp, self.saved, self.parents = None, (), ()
        return record


def topological(place):
    """All Nodes and leaves from which `place` was made, parents first (depth first, post-order).

    A leaf stands as late as it can, so that backward is done with it as early as it can.
    """
    order, seen, stack = [], set(), [(place, False)]
    while stack:
        place, done = stack.pop()
        if done:
            order.append(place)
        elif id(place) not in seen:
            seen.add(id(place))
            stack.append((place, True))
            if isinstance(place, Node):
                parents = [parent for parent in place.parents if parent is not None]
                parents.sort(key=lambda parent: isinstance(parent, Node))     # leaves go below
                stack.extend((parent, False) for parent in parents)
    return order


def backward(root, grad=None):
    """See `Tensor.backward`."""
    if not root.requires_grad:
        raise ValueError("nothing to differentiate: no input of this Tensor has "
                         "requires_grad=True, or it was made under no_grad()")
    if grad is None:
        if root.data.size != 1:
            raise ValueError(f"backward() without a gradient needs a single number, and this has "
                             f"shape {root.shape}: sum it, or pass a gradient of that shape")
        grad = np.ones_like(root.data)
    grad = np.array(grad, root.dtype)                  # a copy: the caller's stays as it is
    if grad.shape != root.shape:
        raise ValueError(f"gradient of shape {grad.shape} for a Tensor of shape {root.shape}")
    order = topological(root.node or root)
    for place in order:
        if isinstance(place, Node) and place.vjp is None:
            raise ValueError(f"an earlier backward() has used up the record of {place.name}: "
                             "compute the loss again, or add both losses and go back once")

    arrived = {id(order[-1]): (grad, True)}            # what each place has received so far
    while order:
        place = order.pop()
        dout, owned = arrived.pop(id(place))           # complete: all that used it came before
        if not isinstance(place, Node):
            keep(place, dout, owned)
            continue
        vjp, saved, parents = place.use_up()
        gradients = vjp(dout, *saved)
        check(place.name, parents, gradients)
        for parent, g in zip(parents, gradients):
            if parent is not None:
                fresh = is_fresh(g, (dout, *saved, *gradients))
                arrived[id(parent)] = accumulate(arrived.get(id(parent)), g, fresh)
        del dout, saved, gradients, g                  # before the next VJP needs memory


def is_fresh(g, arrays):
    """True where nobody else can see g's memory; `arrays` are all that a VJP knew, g among them."""
    return g.base is None and sum(a is g or getattr(a, "base", None) is g for a in arrays) == 1


def accumulate(so_far, g, fresh):
    """Add g to what arrived before; in place only in an array that nobody else can see."""
    if so_far is None:
        return g, fresh
    array, owned = so_far
    if owned and array.ndim:
        add_into(array, g)
        return array, True
    return array + g, True


@lowerable
def add_into(array, g):
    """array ← array + g in place; both of one shape."""
    array += g


@lowerable
def keep(leaf, g, owned):
    """Add g, all of it, to a leaf's gradient, which must not share memory with any other.

    Day 61 takes this function's place, to send a gradient as soon as it is complete.
    """
    if leaf.grad is None:
        leaf.grad = np.asarray(g) if owned else np.array(g, order="C")
    else:
        leaf.grad = np.asarray(leaf.grad + g)


def check(name, parents, gradients):
    """A wrong VJP is caught where it happens: how many gradients, of which shape and dtype."""
    if len(gradients) < len(parents) or any(g is not None for g in gradients[len(parents):]):
        raise ValueError(f"{name}'s VJP gave {len(gradients)} gradients for {len(parents)} inputs")
    for parent, g in zip(parents, gradients):
        if parent is None or (np.shape(g) == parent.shape
                              and getattr(g, "dtype", None) == parent.dtype):
            continue
        found = "no gradient" if g is None else (
            f"a gradient of shape {np.shape(g)}, {getattr(g, 'dtype', type(g).__name__)},")
        raise ValueError(f"{name}'s VJP gave {found} for an input of shape {parent.shape}, "
                         f"{parent.dtype}")


def check_types(name, inputs, dtype):
    """ValueError where float32 that wants a gradient met float64, and the outcome is float64.

    Its gradient would come back as float64. It is said here, where the two meet, and not by the
    way back, where the place is no longer known.
    """
    if dtype == np.float64 and any(getattr(x, "requires_grad", False) and x.dtype == np.float32
                                   for x in inputs):
        met = [f"{x.dtype} {x.shape}" for x in inputs if hasattr(x, "dtype")]
        if any(said.startswith("float64") for said in met):
            raise ValueError(f"{name} of {' and '.join(met)}: make all one dtype, by dtype=… where "
                             "a layer or a model is made, or by array.astype")


def saved_by_operation(root):
    """{name of operation: bytes} that the record of `root` keeps alive, in order of the forward.

    A buffer that several operations saved counts once, for the first. Leaves (the parameters)
    don't count: they are there anyway.
    """
    places = topological(root.node or root)
    counted = {id(owner(leaf.data)) for leaf in places if not isinstance(leaf, Node)}
    kept = {}
    for node in (place for place in places if isinstance(place, Node)):
        kept.setdefault(node.name, 0)
        for array in map(owner, (a for a in node.saved if isinstance(a, np.ndarray))):
            if id(array) not in counted:
                counted.add(id(array))
                kept[node.name] += array.nbytes
    return kept


def saved_bytes(root):
    """Bytes that the record of `root` keeps alive besides the leaves; each buffer once."""
    return sum(saved_by_operation(root).values())


def owner(array):
    """The array whose memory this one shows: itself, or what it is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
