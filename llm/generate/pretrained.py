"""Day 52 · Open a real model: a GGUF file becomes a shape, a tokenizer and weights.

What a file says is put into day 42's words, so that every decoder of the course can run it.
Left out: keeping the weights in 4 bits (llm/kernels/llama.py does), and other families than Llama.
"""

from dataclasses import dataclass

import numpy as np

from llm.data.text import on_stderr
from llm.generate.architecture import Architecture, check_weights
from llm.generate.template import ChatTemplate
from llm.tokens.fast_bpe import FastBPE
from llm.weights.cursor import GGUFError
from llm.weights.gguf import GGUF
from llm.weights.llama import describe, float_weights, need
from llm.weights.scored import ScoredBPE
from llm.weights.smollm import fetch_smollm
from llm.weights.vocabulary import first_id, stop_ids, tokenizer


@dataclass(frozen=True)
class Pretrained:
    """An open model: its file, shape and tokenizer; `weights()` makes float32 arrays."""

    file: GGUF
    arch: Architecture
    tokenizer: FastBPE | ScoredBPE
    first: int | None             # the id that every text begins with, if any
    stops: frozenset              # ids that end an answer
    template: str | None          # the chat template as the file writes it, if it has one

    def encode(self, text):
        """str -> ids (T,), with the id that texts of this model begin with."""
        ids = self.tokenizer.encode(text)
        return ids if self.first is None else np.concatenate([[self.first], ids]).astype(np.int32)

    def weights(self):
        """{name: float32 array}, as `decode` wants them: 4 bytes for every weight of the file.

        Raises GGUFError where an array is missing, misshapen or not finite.
        """
        weights = float_weights(self.file, describe(self.file))
        try:
            check_weights(self.arch, weights)
        except ValueError as error:
            raise GGUFError(f"{self.file.path} contradicts itself: {error}") from None
        return weights

    def chat_template(self):
        """The file's ChatTemplate. GGUFError where it has none; TemplateError for an odd one."""
        if self.template is None:
            raise GGUFError(f"{self.file.path} brings no chat template, so there is no telling "
                            "what a conversation looks like to this model; give it a prompt")
        names = {end: self.file.metadata.get(f"tokenizer.ggml.{end}_token_id", -1)
                 for end in ("bos", "eos")}
        texts = {i: text for text, i in self.tokenizer.specials.items()}
        return ChatTemplate(self.template, *(texts.get(names[end], "") for end in names))

    def count_weights(self):
        """How many numbers the file holds, quantised or not."""
        return sum(tensor.count for tensor in self.file.tensors.values())


def load(path=None, report=on_stderr):
    """Open a Llama-architecture GGUF file, SmolLM2-135M by default -> Pretrained.

    Weights stay in the file until they are used. Raises GGUFError or TextError with one line.
    """
    file = GGUF(fetch_smollm(report) if path is None else path)
    try:
        arch = Architecture(**describe(file))
    except ValueError as error:
        raise GGUFError(f"{file.path} describes no model: {error}") from None
    words = tokenizer(file)
    if words.vocab_size > arch.V:
        raise GGUFError(f"{file.path} has {words.vocab_size:,} pieces but embeds {arch.V:,}")
    template = need(file, "tokenizer.chat_template", str, "") or None
    return Pretrained(file, arch, words, first_id(file), stop_ids(file), template)
