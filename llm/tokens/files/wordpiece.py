"""Day 26 · WordPiece vocabularies in files: BERT's vocab.txt, and Hugging Face's tokenizer.json.

A vocab.txt has one piece a line, and the line's number is the id; all else is convention. Readers
return the arguments of WordPiece; a setting that we do not have is refused by name. One is passed
over: the post_processor, which puts [CLS] and [SEP] around the ids that `encode` gives.
Leaves out: other normalizers and pre-tokenizers than BERT's.
"""

import json

from llm.data.download import write_atomically
from llm.tokens.cut.bert import Bert
from llm.tokens.files.added import read_added, write_added
from llm.tokens.files.bpe import parse, read

SETTINGS = {"clean_text": "clean", "handle_chinese_chars": "chinese",
            "strip_accents": "strip_accents", "lowercase": "lower"}       # theirs, ours
MODEL = ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word")
NONE = Bert(lower=False, strip_accents=False, clean=False, chinese=False)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_vocabulary(path, lower):
    """A vocab.txt, a tokenizer.json, or a folder with one -> arguments of WordPiece."""
    if path.is_dir():
        names = [name for name in ("tokenizer.json", "vocab.txt") if (path / name).exists()]
        path = path / (names or ["vocab.txt"])[0]
    return from_lines(read(path), lower) if path.suffix == ".txt" else from_json(read(path))


def from_lines(text, lower):
    """The text of a vocab.txt -> arguments of WordPiece; of BERT's special tokens, those there."""
    pieces = [line.rstrip() for line in text.split("\n")]
    if pieces[-1] == "":
        pieces.pop()                                       # what follows the last line end
    if "" in pieces:
        raise ValueError(f"line {pieces.index('') + 1} is empty; each line must hold a piece")
    return {"pieces": pieces, "specials": [name for name in SPECIALS if name in pieces],
            "bert": Bert(lower=lower)}


def from_json(text):
    """The text of a tokenizer.json -> arguments of WordPiece."""
    found = parse(text, "tokenizer.json")
    model = found.get("model") or {}
    if model.get("type", "WordPiece") != "WordPiece" or "vocab" not in model:
        raise ValueError(f"the model is {model.get('type')!r}; only WordPiece with a vocab is "
                         "read here")
    lacking = [name for name in MODEL if name not in model]
    if lacking:
        raise ValueError(f"the model has no {lacking[0]}; is the file damaged?")
    for part in ("truncation", "padding"):
        if found.get(part):
            raise ValueError(f"{part} {found[part]!r} is not supported: cut and fill batches "
                             "yourself")
    vocab, (specials, flags) = dict(model["vocab"]), read_added(found)
    for name, i in specials.items():
        if "normalized" in flags.get(name, ()):
            raise ValueError(f"the special token {name!r} wants normalized, which is not supported")
        if vocab.setdefault(name, i) != i:
            raise ValueError(f"the special token {name!r} has the id {i}, and in the vocabulary "
                             f"{vocab[name]}")
    cleanup = decoder(found.get("decoder"), model["continuing_subword_prefix"])
    pre = found.get("pre_tokenizer")
    if pre != {"type": "BertPreTokenizer"}:
        raise ValueError(f"the pre_tokenizer {json.dumps(pre)[:300]} is not supported; only "
                         "BertPreTokenizer is")
    return {"pieces": by_id(vocab), "specials": [*specials], "flags": flags,
            "unknown": model["unk_token"],
            "prefix": model["continuing_subword_prefix"], "bert": bert(found.get("normalizer")),
            "longest": model["max_input_chars_per_word"], "cleanup": cleanup}


def by_id(vocab):
    """{piece: id} -> pieces in the order of their ids, which must be 0, 1, 2, …"""
    for piece, i in vocab.items():
        if type(i) is not int:
            raise ValueError(f"the piece {piece!r} has {i!r} for an id")
    pieces = sorted(vocab, key=vocab.get)
    for i, piece in enumerate(pieces):
        if vocab[piece] != i:
            raise ValueError(f"the piece {piece!r} has the id {vocab[piece]}, where {i} should "
                             "follow: an id is missing, or two pieces share one")
    return pieces


def bert(normalizer):
    """The text preparation that a normalizer object means."""
    if normalizer is None:
        return NONE
    rest = {**normalizer}
    if rest.pop("type", None) != "BertNormalizer" or set(rest) - set(SETTINGS):
        raise ValueError(f"the normalizer {json.dumps(normalizer)[:300]} is not supported; only "
                         "BertNormalizer is")
    return Bert(**{SETTINGS[name]: value for name, value in rest.items()})


def decoder(found, prefix):
    """Does this decoder object clean up? Without one we decode as BERT does."""
    if found is None:
        return True
    if not isinstance(found, dict) or found.get("type") != "WordPiece" or (
            found.get("prefix", prefix) != prefix):
        raise ValueError(f"the decoder {json.dumps(found)[:300]} is not supported; only WordPiece "
                         "with the prefix of the model is")
    return found.get("cleanup", True)


def to_json(tokenizer):
    """The bytes of a tokenizer.json that Hugging Face's tokenizers reads to the same ids."""
    settings = {theirs: getattr(tokenizer.bert, ours) for theirs, ours in SETTINGS.items()}
    model = {"type": "WordPiece", "unk_token": tokenizer.unknown,
             "continuing_subword_prefix": tokenizer.prefix,
             "max_input_chars_per_word": tokenizer.longest, "vocab": tokenizer.ids}
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": write_added(tokenizer.specials, tokenizer.flags),
             "normalizer": {"type": "BertNormalizer", **settings},
             "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
             "decoder": {"type": "WordPiece", "prefix": tokenizer.prefix,
                         "cleanup": tokenizer.cleanup}, "model": model}
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()


def write_vocab(tokenizer, path):
    """Write BERT's vocab.txt: one piece a line. ValueError for a piece that a line cannot hold."""
    for piece in tokenizer.pieces:
        if piece != piece.rstrip() or "\n" in piece or "\r" in piece:
            raise ValueError(f"the piece {piece!r} does not fit on a line; use save instead")
    write_atomically(path, "".join(f"{piece}\n" for piece in tokenizer.pieces).encode())
