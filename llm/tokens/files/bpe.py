"""Day 25 · Vocabulary files: GPT-2's vocab.json + merges.txt, and Hugging Face's tokenizer.json.

Both write bytes as visible characters: printable ones stand for themselves, the other 68 are moved
to U+0100 and up, so a space is Ġ (U+0120). Readers return the arguments of FastBPE.
Leaves out: what is not known here, such as dropout or a normalizer; it is refused by name.
"""

import json

from llm.tokens.bpe import VocabularyError
from llm.tokens.files import llama
from llm.tokens.files.added import normalizer, read_added, write_added

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
GPT2_ORDER = PRINTABLE + [b for b in range(256) if b not in PRINTABLE]   # ids 0–255 of GPT-2
CHARACTER = {b: chr(b) if b in PRINTABLE else chr(0x100 + i - len(PRINTABLE))
             for i, b in enumerate(GPT2_ORDER)}
BYTE = {character: b for b, character in CHARACTER.items()}
END = "<|endoftext|>"      # the one special token of GPT-2
MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")     # what we do not have
GPT4_PARTS = (r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
              r"\s*[\r\n]+|\s+(?!\S)|\s+")
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = ENDINGS + "|" + GPT4_PARTS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LETTERS = r"[^\r\n\p{L}\p{N}]?"
PATTERNS = {
    "llama3": LLAMA3,
    "qwen2": LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "cl100k": LLAMA3.replace(r"\s*[\r\n]+", r"\s+\z|\s*[\r\n]+"),
    "o200k": (f"{LETTERS}{UPPER}*{LOWER}+{ENDINGS}?|{LETTERS}{UPPER}+{LOWER}*{ENDINGS}?|"
              + GPT4_PARTS.partition("|")[2].replace(r"+[\r\n]*", r"+[\r\n/]*")),
}


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


def read_vocabulary(path):
    """A tokenizer.json or a folder -> arguments of FastBPE. VocabularyError says what is wrong."""
    if path.is_dir():
        for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            if (path / names[0]).exists():
                return from_gpt2(*(read(path / name) for name in names))
        raise VocabularyError(f"{path} has no vocab.json; give the folder that holds vocab.json "
                              "and merges.txt, or a tokenizer.json")
    return from_json(read(path))


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VocabularyError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path} is not UTF-8 text: {error}") from None


def parse(text, what):
    """JSON that is an object, or ValueError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} is not whole JSON ({error}); is the file cut short?") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} holds a {type(found).__name__}, not an object")
    return found


def from_gpt2(vocab_json, merges_txt, specials=(END,), rule="gpt2"):
    """The texts of vocab.json and merges.txt -> arguments of FastBPE."""
    vocab = parse(vocab_json, "vocab.json")
    lines = merges_txt.split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges = [line.split(" ") for line in lines[first:] if line]
    return assemble(vocab, merges, rule, {name: vocab.pop(name) for name in specials
                                          if name in vocab})


def assemble(vocab, merges, rule, specials, whole_words=False, read=piece_of):
    """Check pieces {visible: id} and merges [[left, right], …] against each other.

    read: the bytes that a visible piece stands for.
    """
    for piece, i in vocab.items():
        if not isinstance(i, int) or i < 0:
            raise ValueError(f"the piece {piece!r} has {i!r} for an id")
    if len(set(vocab.values())) < len(vocab):
        raise ValueError("two pieces of the vocabulary share an id")
    triples = []
    for r, pair in enumerate(merges):
        if len(pair) != 2:
            raise ValueError(f"merge number {r} is {pair!r}, not two pieces; "
                             "is the file cut short?")
        for piece in (*pair, "".join(pair)):
            if piece not in vocab:
                raise ValueError(f"merge number {r}, {' '.join(pair)!r}, names the piece "
                                 f"{piece!r}, which the vocabulary does not have")
        triples.append((vocab[pair[0]], vocab[pair[1]], vocab["".join(pair)]))
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


def from_json(text):
    """The text of a tokenizer.json -> arguments of FastBPE."""
    found = parse(text, "tokenizer.json")
    model = found.get("model") or {}
    if not model.get("type", "BPE") == "BPE" or "merges" not in model or "vocab" not in model:
        raise ValueError(f"the model is {model.get('type')!r}; only BPE with vocab and merges is "
                         "read here")
    for part in ("truncation", "padding", *MODEL):
        value = (model if part in MODEL else found).get(part)
        if value:
            raise ValueError(f"{part} {value!r} is not supported")
    normalizer(found.get("normalizer"))                       # or it says what it does not know
    specials, flags = read_added(found)
    vocab = {piece: i for piece, i in model["vocab"].items() if piece not in specials}
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    whole, pre = bool(model.get("ignore_merges")), found.get("pre_tokenizer")
    more = {"normalizer": found.get("normalizer"), "flags": flags}
    if model.get("byte_fallback"):
        if whole:
            raise ValueError("ignore_merges and byte_fallback together are not supported")
        more |= {"fallback": llama.take_bytes(vocab), "prepend": llama.prepend_of(pre)}
        return assemble(vocab, merges, "whole", specials, read=llama.piece_of) | more
    rule, more["prepend"] = rule_of(pre)
    return assemble(vocab, merges, rule, specials, whole) | more


def rule_of(pre):
    """(rule, prepend) that a pre_tokenizer object means. ValueError if it is none of ours."""
    for rule in ("whole", "gpt2", "smollm", *PATTERNS):
        for prepend in ("never", "always") if rule in ("whole", "gpt2") else ("never",):
            if same(pre, pre_tokenizer(rule, prepend)):
                return rule, prepend
    raise ValueError(f"the pre_tokenizer {json.dumps(pre)[:300]} is none of the rules of split.py")


def same(found, wanted):
    """Does `found` split as `wanted` does? trim_offsets does not matter to ids."""
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict) and isinstance(found, dict):
        found = {"use_regex": True, **found, "trim_offsets": True}
        return all(key in found and same(found[key], wanted[key]) for key in wanted)
    return found == wanted


def pre_tokenizer(rule, prepend="never"):
    """The object that means `rule` and `prepend` in a tokenizer.json."""
    level = {"type": "ByteLevel", "add_prefix_space": prepend == "always", "trim_offsets": True,
             "use_regex": rule in ("gpt2", "smollm")}
    before = {"smollm": {"type": "Digits", "individual_digits": True}}
    if rule in PATTERNS:
        before[rule] = {"type": "Split", "pattern": {"Regex": PATTERNS[rule]},
                        "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [before[rule], level]} if rule in before else level


def to_json(pieces, merges, rule, specials, whole_words=False, normalizer=None, flags=None,
            prepend="never", fallback=None, strips=False):
    """The bytes of a tokenizer.json that Hugging Face's tokenizers reads to the same ids."""
    of_bytes = {i: f"<0x{b:02X}>" for b, i in (fallback or {}).items()}
    names = {i: (visible if fallback is None else llama.written)(piece)
             for i, piece in pieces.items()} | of_bytes
    both = set(names.values()) & set(specials)
    if both:
        raise ValueError(f"the special token {both.pop()!r} is written like an ordinary piece; "
                         "give it another name")
    vocab = {**names, **{i: text for text, i in specials.items()}}   # else specials get other ids
    level = pre_tokenizer("gpt2")
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": fallback is not None,
             "ignore_merges": whole_words, "vocab": {vocab[i]: i for i in sorted(vocab)},
             "merges": [[names[a], names[b]] for a, b, _ in merges.tolist()]}
    pre = pre_tokenizer(rule, prepend) if fallback is None else llama.pre_tokenizer(prepend)
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": write_added(specials, flags or {}), "normalizer": normalizer,
             "pre_tokenizer": pre, "post_processor": None,
             "decoder": level if fallback is None else llama.decoder(strips), "model": model}
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()
