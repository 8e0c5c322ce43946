"""Day 25 · Vocabulary files: GPT-2's vocab.json + merges.txt, and Hugging Face's tokenizer.json.

Both write bytes as visible characters. Printable ones stand for themselves and the other 68 are
moved to U+0100 and up, so a space is written Ġ (U+0120). A reader checks pieces and merges against
each other and returns the arguments of FastBPE.
How text is cut is read in rules.py, special tokens in added.py, Llama 2's characters in llama.py.
Leaves out: parts of a file that are not known here, such as dropout; each is refused by name.
"""

import json

from llm.tokens.bpe import VocabularyError
from llm.tokens.files import llama
from llm.tokens.files.added import normalizer as normalizer_of
from llm.tokens.files.added import read_added, write_added
from llm.tokens.files.rules import pre_tokenizer, rule_of

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
GPT2_ORDER = PRINTABLE + [b for b in range(256) if b not in PRINTABLE]   # ids 0–255 of GPT-2
CHARACTER = {b: chr(b) if b in PRINTABLE else chr(0x100 + i - len(PRINTABLE))
             for i, b in enumerate(GPT2_ORDER)}
BYTE = {character: b for b, character in CHARACTER.items()}
END = "<|endoftext|>"      # the one special token of GPT-2
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))      # two names, one format
MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")     # what we do not have


def visible(piece):
    """The bytes of a piece as the files write them: b" the" -> "Ġthe"."""
    return "".join(CHARACTER[b] for b in piece)


def piece_of(text):
    """The bytes that a visible piece stands for. ValueError for a character that is none."""
    try:
        return bytes(BYTE[c] for c in text)
    except KeyError as error:
        raise ValueError(f"the piece {text!r} has {error}, which stands for no byte: this is not "
                         "a byte-level vocabulary") from None


# --- Reading ----------------------------------------------------------------------------------

def read_vocabulary(path):
    """A tokenizer.json, or a folder with the older pair of files -> arguments of FastBPE.

    VocabularyError where there is no such file, ValueError for what is wrong inside one.
    """
    if not path.is_dir():
        return from_json(read(path))
    for names in PAIRS:
        if (path / names[0]).exists():
            return from_gpt2(*(read(path / name) for name in names))
    raise VocabularyError(f"{path} has no vocab.json; give the folder that holds vocab.json "
                          "and merges.txt, or a tokenizer.json")


def read(path):
    """The text of a file. VocabularyError where there is none, or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VocabularyError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path} is not UTF-8 text: {error}") from None


def parse(text, what):
    """The dict that a JSON text holds; `what` names the file in the ValueError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} is not whole JSON ({error}); is the file cut short?") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} holds a {type(found).__name__}, not an object")
    return found


def from_gpt2(vocab_json, merges_txt, specials=(END,), rule="gpt2"):
    """The texts of vocab.json and merges.txt -> arguments of FastBPE.

    The two files say neither how text is cut nor which pieces are special: the caller knows.
    """
    vocab = parse(vocab_json, "vocab.json")
    lines = merges_txt.split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges = [line.split(" ") for line in lines[first:] if line]
    special_ids = {name: vocab.pop(name) for name in specials if name in vocab}
    return assemble(vocab, merges, rule, special_ids)


def from_json(text):
    """The text of a tokenizer.json -> arguments of FastBPE. ValueError for what we do not have."""
    found = parse(text, "tokenizer.json")
    model = found.get("model") or {}
    if model.get("type", "BPE") != "BPE" or "merges" not in model or "vocab" not in model:
        raise ValueError(f"the model is {model.get('type')!r}; only BPE with vocab and merges is "
                         "read here")
    refuse(found, ("truncation", "padding"))
    refuse(model, MODEL)
    normalizer, pre = found.get("normalizer"), found.get("pre_tokenizer")
    normalizer_of(normalizer)                             # or it says what it does not know
    specials, flags = read_added(found)
    vocab = {piece: i for piece, i in model["vocab"].items() if piece not in specials}
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    whole_words = bool(model.get("ignore_merges"))
    if model.get("byte_fallback"):
        if whole_words:
            raise ValueError("ignore_merges and byte_fallback together are not supported")
        fallback, prepend = llama.take_bytes(vocab), llama.prepend_of(pre)
        arguments = assemble(vocab, merges, "whole", specials, read=llama.piece_of)
    else:
        fallback, (rule, prepend) = None, rule_of(pre)
        arguments = assemble(vocab, merges, rule, specials, whole_words)
    return arguments | {"normalizer": normalizer, "flags": flags, "prepend": prepend,
                        "fallback": fallback}


def refuse(found, names):
    """ValueError if the object has any of these parts."""
    for name in names:
        if found.get(name):
            raise ValueError(f"{name} {found[name]!r} is not supported")


def assemble(vocab, merges, rule, specials, whole_words=False, read=piece_of):
    """Pieces {visible: id} and merges [[left, right], …] -> arguments of FastBPE.

    specials {text: id} are not in vocab. whole_words: pieces that no merge makes are allowed.
    read: the bytes that a visible piece stands for. ValueError where vocab and merges contradict
    each other, or an id is so large that a table of all ids would hardly be filled.
    """
    for piece, i in vocab.items():
        if not isinstance(i, int) or i < 0:
            raise ValueError(f"the piece {piece!r} has {i!r} for an id")
    if len(set(vocab.values())) < len(vocab):
        raise ValueError("two pieces of the vocabulary share an id")
    triples = [triple(rank, pair, vocab) for rank, pair in enumerate(merges)]
    last, size = max([*vocab.values(), *specials.values()], default=0), len(vocab) + len(specials)
    if last > 2 * size + 1000:
        raise ValueError(f"an id is {last}, but there are only {size} pieces")
    made = {new for _, _, new in triples}
    unmade = [piece for piece, i in vocab.items() if len(piece) > 1 and i not in made]
    if unmade and not whole_words:
        raise ValueError(f"no merge makes {len(unmade)} of the pieces, such as {unmade[0]!r}; are "
                         "the merges cut short, or is it a special token that is not declared?")
    return {"pieces": {i: read(piece) for piece, i in vocab.items()}, "merges": triples,
            "rule": rule, "specials": specials, "whole_words": whole_words}


def triple(rank, pair, vocab):
    """The ids (left, right, joined) of one merge. ValueError if a piece of it is missing."""
    if len(pair) != 2:
        raise ValueError(f"merge number {rank} is {pair!r}, not two pieces; is the file cut short?")
    for piece in (*pair, "".join(pair)):
        if piece not in vocab:
            raise ValueError(f"merge number {rank}, {' '.join(pair)!r}, names the piece {piece!r}, "
                             "which the vocabulary does not have")
    return vocab[pair[0]], vocab[pair[1]], vocab["".join(pair)]


# --- Writing ----------------------------------------------------------------------------------

def to_json(pieces, merges, rule, specials, whole_words=False, normalizer=None, flags=None,
            prepend="never", fallback=None, strips=False):
    """The bytes of a tokenizer.json that Hugging Face's tokenizers reads to the same ids.

    The arguments are those of FastBPE, merges (M, 3) as an array; strips: does decoding take a
    first space off? ValueError where a special token is written like a piece.
    """
    written = visible if fallback is None else llama.written
    names = {i: written(piece) for i, piece in pieces.items()}
    names |= {i: f"<0x{b:02X}>" for b, i in (fallback or {}).items()}
    if both := set(names.values()) & set(specials):
        raise ValueError(f"the special token {both.pop()!r} is written like an ordinary piece; "
                         "give it another name")
    # Special tokens stand among the pieces, too: else the reader gives them the next free ids.
    vocab = names | {i: text for text, i in specials.items()}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": fallback is not None,
             "ignore_merges": whole_words, "vocab": {vocab[i]: i for i in sorted(vocab)},
             "merges": [[names[a], names[b]] for a, b, _ in merges.tolist()]}
    if fallback is None:
        pre, decoder = pre_tokenizer(rule, prepend), pre_tokenizer("gpt2")
    else:
        pre, decoder = llama.pre_tokenizer(prepend), llama.decoder(strips)
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": write_added(specials, flags or {}), "normalizer": normalizer,
             "pre_tokenizer": pre, "post_processor": None, "decoder": decoder, "model": model}
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()
