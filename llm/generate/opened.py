"""Day 64 · Open whatever holds a model: a folder, a GGUF file, or the name smollm.

Chat and server ask three things of a model: a decoder for one text, weights for many texts at once,
and how text becomes ids. Where they come from differs; what they are does not.
Left out: snapshots of a training (export them first) and models of other architectures.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llm.generate import llama, pretrained
from llm.generate.architecture import Architecture, check_weights
from llm.generate.batch import pack_rows
from llm.generate.engine import Engine
from llm.generate.template import ChatTemplate
from llm.weights.cursor import GGUFError
from llm.weights.export import ExportError, import_hf, weights_of
from llm.weights.gguf import GGUF
from llm.weights.import_gguf import FAMILIES, describe_gpt, gpt_arrays
from llm.weights.llama import need
from llm.weights.vocabulary import first_id, stop_ids, tokenizer


@dataclass(frozen=True)
class Opened:
    """A model that is ready to be asked. `engine(**options)` makes a decoder of one text, with the
    options of day 43's Engine; `rows()` makes the weights of day 47's scheduler."""

    name: str
    arch: Architecture
    tokenizer: object
    template: ChatTemplate | None      # None: it continues texts and was not taught to converse
    stops: frozenset                   # ids that end an answer
    first: int | None                  # the id that every text begins with, if any
    engine: Callable
    rows: Callable

    def named(self, name):
        """The same model under another name."""
        return replace(self, name=name)

    def only_text(self, logits, so_far):
        """For a Chooser's `adjust`: ids that the model embeds and the vocabulary has no piece for
        are never chosen. Models are often padded to a round number of ids."""
        size = self.tokenizer.vocab_size
        if len(logits) == size:
            return logits
        return np.concatenate([logits[:size],
                               np.full(len(logits) - size, -np.inf, logits.dtype)])

    def encode(self, text):
        """str -> [ids], with the id that texts of this model begin with."""
        ids = self.tokenizer.encode(text).tolist()
        return ids if self.first is None else [self.first, *ids]


def open_model(model):
    """A path, or "smollm" -> Opened. Raises an OSError with one line where it cannot be read."""
    if str(model) == "smollm":
        return from_llama(None, "SmolLM2-135M")
    path = Path(model)
    if path.is_dir():
        return from_folder(path)
    if path.suffix == ".gguf":
        file = GGUF(path)
        if need(file, "general.architecture", str) in FAMILIES:
            return from_gpt(file)
        return from_llama(path, path.stem)
    raise ExportError(f"{path} is neither a folder with config.json nor a .gguf file" + (
        "" if path.exists() else "; there is nothing of this name"))


def from_llama(path, name):
    """Day 52's models, whose blocks stay as they are."""
    model = pretrained.load(path)
    template = model.chat_template() if model.template else None
    return Opened(name, model.arch, model.tokenizer, template, model.stops, model.first,
                  lambda **options: llama.engine(model, **options),
                  lambda: llama.packed_weights(model))


def from_gpt(file):
    """A GPT in a GGUF file, in float32."""
    try:
        arch = Architecture(**describe_gpt(file))
        weights = gpt_arrays(file, arch)
        check_weights(arch, weights)
    except ValueError as error:
        raise GGUFError(f"{file.path} contradicts itself: {error}") from None
    template = need(file, "tokenizer.chat_template", str, "")
    return opened(file.path.stem, arch, weights, tokenizer(file), template, stop_ids(file),
                  first_id(file))


def from_folder(folder):
    """A folder as `export_hf` writes it, in float32."""
    about, arrays, words, template, ends = import_hf(folder)
    try:
        arch = Architecture(**about)
        weights = weights_of(arrays, arch)
        check_weights(arch, weights)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{folder} contradicts itself: {error}") from None
    return opened(folder.resolve().name, arch, weights, words, template, ends, None)


def opened(name, arch, weights, words, template, stops, first):
    """An Opened from arrays."""
    weights = {key: np.ascontiguousarray(array) for key, array in weights.items()}
    template = ChatTemplate(template) if template else None
    return Opened(name, arch, words, template, frozenset(stops), first,
                  lambda **options: Engine(arch, weights, **options), lambda: pack_rows(weights))
