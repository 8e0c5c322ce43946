"""Day 52 · The tokenizer inside a GGUF file: pieces, merges or scores, special tokens, the rule.

A byte-level vocabulary ("gpt2" in the file) becomes day 25's FastBPE; the file names its splitting
rule and does not describe it, so the name must be one that is known here. A vocabulary with scores
("llama") becomes a ScoredBPE. Left out: Unigram ("t5"), WordPiece ("bert"), and rules that look
whole words up before merging ("llama-bpe"); each is refused by name.
Source: ggml, docs/gguf.md, "Tokenizer"; llama.cpp, llama-vocab.cpp, `llama_vocab_pre_type`.
"""

from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import assemble
from llm.weights.cursor import GGUFError
from llm.weights.llama import need
from llm.weights.scored import ScoredBPE

RULES = {"smollm": "smollm", "starcoder": "smollm", "refact": "smollm", "command-r": "smollm",
         "codeshell": "smollm", "gpt-2": "gpt2", "phi-2": "gpt2", "qwen2": "qwen2"}
NORMAL, BYTE = 1, 6     # of tokenizer.ggml.token_type; 2 to 5 are unknown, control, user's, unused


def tokenizer(file):
    """FastBPE or ScoredBPE from an open GGUF. GGUFError: what is missing or not supported."""
    model = need(file, "tokenizer.ggml.model", str)
    if model not in ("gpt2", "llama"):
        raise GGUFError(f"{file.path} has a vocabulary of the kind {model!r}; only byte-level BPE "
                        "('gpt2') and BPE with scores ('llama') are read here")
    pieces = need(file, "tokenizer.ggml.tokens", list)
    kinds = list(file.metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(pieces)))
    if len(kinds) != len(pieces):
        raise GGUFError(f"{file.path} has {len(pieces):,} pieces and {len(kinds):,} types of them")
    try:
        if len(set(pieces)) < len(pieces):
            raise ValueError("two pieces are the same")
        return (byte_level if model == "gpt2" else scored)(file, pieces, kinds)
    except GGUFError:
        raise
    except (ValueError, AttributeError, TypeError) as error:
        raise GGUFError(f"{file.path} has a vocabulary that contradicts itself: {error}") from None


def byte_level(file, pieces, kinds):
    """Pieces of visible bytes and a list of merges."""
    pre = need(file, "tokenizer.ggml.pre", str)
    if pre not in RULES:
        raise GGUFError(f"{file.path} splits text by the rule {pre!r}; known are "
                        f"{', '.join(RULES)}")
    merges = [merge.split(" ") for merge in need(file, "tokenizer.ggml.merges", list)]
    vocab = {piece: i for i, piece in enumerate(pieces) if kinds[i] == NORMAL}
    specials = {piece: i for i, piece in enumerate(pieces) if kinds[i] != NORMAL}
    return FastBPE(**assemble(vocab, merges, RULES[pre], specials))


def scored(file, pieces, kinds):
    """Pieces of text with scores."""
    scores = file.metadata.get("tokenizer.ggml.scores", ())
    ids = {piece: i for i, piece in enumerate(pieces)}
    byte_ids = [ids[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in ids]
    specials = {piece: i for i, piece in enumerate(pieces) if kinds[i] not in (NORMAL, BYTE)}
    prefix = need(file, "tokenizer.ggml.add_space_prefix", bool, True)
    return ScoredBPE(pieces, scores, specials, byte_ids, prefix)


def first_id(file):
    """The id that a text begins with, or None where the model was trained without one."""
    with_scores = file.metadata.get("tokenizer.ggml.model") == "llama"
    if not need(file, "tokenizer.ggml.add_bos_token", bool, with_scores):
        return None
    return in_range(file, need(file, "tokenizer.ggml.bos_token_id"))


def stop_ids(file):
    """The ids that end an answer: the file's end of text and its end of turn."""
    keys = [f"tokenizer.ggml.{key}_token_id" for key in ("eos", "eot")]
    return frozenset(in_range(file, need(file, key)) for key in keys if key in file.metadata)


def in_range(file, i):
    """i, if the vocabulary has it."""
    pieces = need(file, "tokenizer.ggml.tokens", list)
    if not 0 <= i < len(pieces):
        raise GGUFError(f"{file.path} names the id {i}, but there are {len(pieces):,} only")
    return i
