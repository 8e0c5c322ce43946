"""Day 26 · Write the data of the page notes/interactive/tokenizer.html: three small vocabularies.

    python experiments/tokenizer_page.py           refresh the page
    python experiments/tokenizer_page.py --check   change nothing; exit 1 if the page is stale

As with the pages of `pages.py`, the page is a template that holds
its own data: here what BPE, WordPiece and Unigram learn from all of Shakespeare, and with which the
page cuts by itself. Log probabilities are rounded, so that the last bit of a sum of a million
numbers, which may differ between two machines, does not make the page stale.
"""

from days.harness import say
from experiments.pages import FOLDER, as_json, fill, main
from llm.data.text import load
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.unigram import Unigram
from llm.tokens.wordpiece import WordPiece

PAGE = FOLDER / "tokenizer.html"
SIZE, DIGITS = 2000, 3
SPECIAL = "<|endoftext|>"


class Run:
    """The tokenizers that the page must agree with, learned from one text."""

    def __init__(self, text=None):
        text = text or load("shakespeare", say).text
        self.characters = CharTokenizer.from_text(text)
        self.bpe = FastBPE.train(text, SIZE, specials=[SPECIAL])
        self.wordpiece = WordPiece.train(text, SIZE, lower=False)
        self.unigram = rounded(Unigram.train(text, SIZE, rule="gpt2"))


def rounded(unigram):
    """The same pieces, their scores with a few digits only."""
    return Unigram([(piece, round(score, DIGITS)) for piece, score in unigram.pieces],
                   unigram.unk_id, unigram.byte_fallback, unigram.rule, unigram.prepend,
                   unigram.specials)


def data(run):
    """What the page holds. Pieces have no spaces in them, so a space can stand between two."""
    pieces, scores = zip(*run.unigram.pieces)
    return {"characters": run.characters.characters,
            "merges": run.bpe.merges[:, :2].ravel().tolist(),
            "wordpiece": {"pieces": " ".join(run.wordpiece.pieces)},
            "unigram": {"pieces": " ".join(pieces), "scores": scores},
            "specials": [*run.bpe.specials, *run.wordpiece.specials, *run.unigram.specials]}


def fresh(run):
    """{path: text} of the page as it should be."""
    return {PAGE: fill(PAGE.read_text(encoding="utf-8"), "data", as_json(data(run)))}


if __name__ == "__main__":
    main(lambda: fresh(Run()), __doc__)
