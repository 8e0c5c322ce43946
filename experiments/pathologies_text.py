"""Day 26 · Spaces, code and scripts: what a vocabulary charges for them, and what it hides.

The parts of `pathologies.py` that are about text. All counts are exact but one: the price of a
space at the end of a prompt is asked of a counting model (day 06) over 4,096 tokens.
"""

import sysconfig
from pathlib import Path

import numpy as np

from llm.models.ngram import NGram
from llm.tokens.fast_bpe import FastBPE

SPELLINGS = ("hello", " hello", "Hello", " Hello", "HELLO", " HELLO")
INDENTED = "        return x"
SPACE = ord(" ")                 # in our vocabularies the ids below 256 are the bytes

# Universal Declaration of Human Rights, article 1, first sentence.
SENTENCES = {
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα "
             "δικαιώματα.",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、"
                "尊厳と権利とについて平等である。",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता "
             "प्राप्त है।",
}


def spellings(tokenizer):
    """One word in six spellings: the pieces and ids of each."""
    return [[repr(text), "|".join(pieces_of(tokenizer, text)), str(tokenizer.encode(text).tolist())]
            for text in SPELLINGS]


def pieces_of(tokenizer, text):
    """The pieces of a text, for reading."""
    return [tokenizer.decode([i]) for i in tokenizer.encode(text).tolist()]


def lonely_spaces(tokenizer, text):
    """How often a space before a letter is a token of its own, and how often it is not."""
    ids, space = tokenizer.encode(text), tokenizer.encode(" ")[0]
    letter = np.array([piece[:1].isalpha() for piece in tokenizer.table])
    joined = np.array([piece[:1] == b" " and piece[1:2].isalpha() for piece in tokenizer.table])
    alone = int((letter[ids[1:]] & (ids[:-1] == space)).sum())
    return alone, alone + int(joined[ids].sum())


def trailing_space(train, held_out, places, rng, vocab_size=4096, order=3):
    """Nats for the next word of `held_out` behind a space: (as usual, the space cut off first).

    As usual " word" is cut as one; its price is that of the text up to the word's end, less that of
    beginning with a space, which the prompt gives away. Cut off first, the prompt ends in the token
    of a lone space and "word" is cut by itself. Both are given the same characters. Also returned:
    the probability that a letter follows the lone space at all, after each of them.
    """
    tokenizer = FastBPE.train(train, vocab_size)
    model = NGram.fit(tokenizer.encode(train), order, tokenizer.vocab_size)
    spaced = np.array([piece[:1] == b" " for piece in tokenizer.table])
    letters = np.array([piece[:1].isalpha() for piece in tokenizer.table])
    spots = [i for i in range(1000, len(held_out) - 100)
             if held_out[i] == " " and held_out[i - 1].isalpha() and held_out[i + 1].isalpha()]
    usual, apart, letter = [], [], []
    for i in rng.choice(spots, places, replace=False).tolist():
        end = i + 1
        while held_out[end].isalpha():
            end += 1
        before = tokenizer.encode(held_out[i - 200:i]).tolist()
        first = model.distribution(before)[spaced].sum()
        usual.append(price(model, before, tokenizer.encode(held_out[i:end])) + np.log(first))
        apart.append(price(model, [*before, SPACE], tokenizer.encode(held_out[i + 1:end])))
        letter.append(model.distribution([*before, SPACE])[letters].sum())
    return float(np.mean(usual)), float(np.mean(apart)), float(np.mean(letter))


def price(model, before, ids):
    """−ln P of the tokens `ids` after `before`, in nats."""
    total, before = 0.0, list(before)
    for i in ids.tolist():
        total -= float(np.log(model.distribution(before)[i]))
        before.append(i)
    return total


def library(most):
    """Sources of this Python's standard library: (to learn from, to measure), by whole files."""
    seen, unseen, size = [], [], 0
    for k, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        source = path.read_text(encoding="utf-8", errors="replace")
        if size > most:
            break
        size += len(source)
        (unseen if k % 5 == 4 else seen).append(source)
    return "".join(seen), "".join(unseen)


def code(tokenizers, text):
    """{name: what a line of code costs} for each tokenizer."""
    lines, size = max(text.count("\n"), 1), len(text.encode())
    found = {}
    for name, tokenizer in tokenizers.items():
        ids = tokenizer.encode(text)
        white = np.array([not piece.strip() for piece in tokenizer.table])
        found[name] = {"tokens_per_line": len(ids) / lines, "bytes_per_token": size / len(ids),
                       "white_space_tokens": float(white[ids].mean()),
                       "indented_line": len(tokenizer.encode(INDENTED))}
    return found


def scripts(tokenizers):
    """{language: characters, bytes and tokens of the same sentence}."""
    return {language: {"characters": len(text), "bytes": len(text.encode()),
                       **{name: len(t.encode(text)) for name, t in tokenizers.items()}}
            for language, text in SENTENCES.items()}
