"""Day 26 · Load any tokenizer of this course, or any supported tokenizer.json, by what is in it.

Left out: day 01's characters, day 24's BPE and tiktoken's files, which have readers of their own.
"""

from pathlib import Path

from llm.tokens.bpe import VocabularyError
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import parse, read
from llm.tokens.unigram import Unigram
from llm.tokens.wordpiece import WordPiece

KINDS = {"BPE": FastBPE, "WordPiece": WordPiece, "Unigram": Unigram}


def load_tokenizer(path):
    """A tokenizer.json, a vocab.txt or a folder with either -> FastBPE, WordPiece or Unigram.

    VocabularyError says what is wrong with a file, or which model is not among the three.
    """
    path = Path(path)
    if path.is_dir() and (path / "tokenizer.json").exists():
        path = path / "tokenizer.json"
    elif path.is_dir():
        return (WordPiece if (path / "vocab.txt").exists() else FastBPE).load(path)
    if path.suffix == ".txt":
        return WordPiece.load(path)
    try:
        kind = kind_of(parse(read(path), "tokenizer.json").get("model") or {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VocabularyError(f"cannot read the vocabulary {path}: {error}") from None
    return KINDS[kind].load(path)


def kind_of(model):
    """The type of a model object; older files do not name it, but their parts do."""
    kind = model.get("type") or ("BPE" if "merges" in model else "WordPiece" if
                                 "max_input_chars_per_word" in model else "Unigram" if
                                 "unk_id" in model else None)
    if kind not in KINDS:
        raise ValueError(f"the model is {kind!r}; there are {', '.join(KINDS)}")
    return kind
