"""Day 55 · One base, many tasks: models that share arrays, and files with what a task trained.

    one, two = share(base), share(base)              # modules of their own, the base's arrays
    add_adapters(one, …); add_prefix(two, …)         # two tasks, one base in memory
    save_trained(path, one)                          # the adapters alone, as safetensors

Left out: peft's own files (day 54 has them for LoRA), and a check that a file belongs to this very
base: names and shapes are all that is compared.
"""

import copy

import numpy as np

from llm.grad.tensor import Tensor
from llm.weights.safetensors import read_safetensors, write_safetensors


def share(model):
    """A model with modules and Tensors of its own over the same arrays: 0 bytes of weights more.

    What replaces modules in it leaves `model` alone. Training its Tensors as they are would change
    the arrays of both: freeze, or copy, first.
    """
    arrays = [value.data if isinstance(value, Tensor) else value
              for _, value in model.named((Tensor, np.ndarray))]
    return copy.deepcopy(model, {id(array): array for array in arrays})


def trained_state(model):
    """{path: array} of what is trained in it, the live arrays; nothing of a frozen base."""
    return {path: tensor.data for path, tensor in model.named_parameters().items()}


def save_trained(path, model):
    """Write what is trained to a safetensors file, all or nothing. ValueError where nothing is."""
    state = trained_state(model)
    if not state:
        raise ValueError("nothing of this model is trained: there is nothing to save")
    write_safetensors(path, state)


def load_trained(path, model):
    """Copy a file of `save_trained` into a model that the same method prepared.

    Raises ValueError, before anything changes, where names or shapes differ.
    """
    given, _ = read_safetensors(path)
    mine = trained_state(model)
    odd = sorted(mine.keys() ^ given.keys()) or sorted(
        name for name in mine if mine[name].shape != given[name].shape)
    if odd:
        raise ValueError(f"{path} does not fit this model: {odd[:3]} stand on one side only, or "
                         "have other shapes. Prepare the model by the same method and sizes")
    for name, array in mine.items():
        array[...] = given[name]
