"""Day 26 · What tokenizers do to numbers, spaces, code, other scripts and rare pieces, in numbers.

    python experiments/pathologies.py [--fast] [--json] [--out DIR]

Each table is followed by what it means. GPT-2's vocabulary is fetched once; without it the parts
that need it are left out. All else is learned here, from Shakespeare and from the sources of this
Python's standard library (which differ a little from one Python to the next).
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

import numpy as np

from days.harness import (
    ROOT,
    UsageError,
    console,
    figure,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from experiments import pathologies_numbers as numbers
from experiments import pathologies_pieces as pieces
from experiments import pathologies_report as report
from experiments import pathologies_text as text
from llm.data.download import TextError
from llm.data.text import load, load_or_default
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.gpt2 import load_gpt2
from llm.tokens.unigram import Unigram
from llm.tokens.wordpiece import WordPiece

ACCENTS = "A naïve café, €5!"
WORDS = (" the", " love", " unkindness", " notwithstanding", " Enobarbus")


def measure(fast, seed):
    """Every number, by topic: {topic: {name: value}}."""
    gpt2 = gpt2_or_none()
    corpus = load_or_default("shakespeare", say)
    train = corpus.train[:200_000] if fast else corpus.train
    held_out = corpus.validation[:30_000] if fast else corpus.validation
    V = 1024 if fast else 4096
    ours, rng = FastBPE.train(train, V), np.random.default_rng(seed)
    known = {"GPT-2": gpt2, f"ours, {V:,}": ours} if gpt2 else {f"ours, {V:,}": ours}
    record = {"corpus": corpus.name, "V": V, "gpt2": gpt2 is not None}
    record["numbers"] = of_numbers(gpt2, seed, fast)
    with progress(5, "text and pieces") as tick:
        record["spaces"] = of_spaces(known, train, held_out, rng, V, 20 if fast else 1000)
        tick()
        seen, unseen = text.library(300_000 if fast else 4_000_000)
        record["code"] = of_code(gpt2, train, seen, unseen, 1024 if fast else 8192)
        record["scripts"] = text.scripts(known)
        tick()
        record["glitch"] = of_glitches(gpt2, train, corpus.text[:200_000] if fast else corpus.text,
                                       (512, 1024) if fast else (4096, 8192, 16384), seed)
        tick()
        wordpiece = WordPiece.train(train, V, lower=False)
        record["wordpiece"] = {"example": [ACCENTS, wordpiece.decode(wordpiece.encode(ACCENTS))],
                               "lost": pieces.unknown(wordpiece, {
                                   "held-out text": held_out[:200_000], **text.SENTENCES,
                                   "Python sources": unseen[:200_000]})}
        tick()
        unigram = Unigram.train(train, V)
        words = re.findall(r" \w+", held_out)[::40][:2000]
        shares = [row[-1] for row in pieces.ambiguity(unigram, words)]
        record["unigram"] = {"words": pieces.ambiguity(unigram, WORDS), "asked": len(shares),
                             "mean_share_of_best": float(np.mean(shares)),
                             "fifth_percentile": float(np.percentile(shares, 5))}
        tick()
    return {**record, "seed": seed, "fast": fast, "machine": machine()}


def gpt2_or_none():
    """GPT-2's vocabulary, or None and a remark."""
    try:
        return load_gpt2()
    except TextError as error:
        say(f"{error} Going on without GPT-2's vocabulary.")
        return None


def of_numbers(gpt2, seed, fast):
    found = {"aligned": numbers.alignment(gpt2),
             "facts": {"digits": 2 * 10**2, "threes": 2 * 1000**2}}
    ways = {"digits, ones first": numbers.digits_reversed, "digits": numbers.digits,
            "threes": numbers.threes_right}
    if gpt2:
        cut = {n: [gpt2.decode([i]) for i in gpt2.encode(str(n)).tolist()] for n in range(2000)}
        ways["GPT-2's pieces"] = cut.__getitem__
        shares = numbers.how_many(gpt2, 4 if fast else 6)
        found["pieces"] = [[many, lead, *row] for (many, lead), row in shares.items()]
        found["patterns"], found["map"] = numbers.four_digits(gpt2)
    sizes = {"examples": 500, "steps": 60, "asked": 100} if fast else {}
    found["learned"] = numbers.learn(ways, seed, **sizes)
    return found


def of_spaces(known, train, held_out, rng, V, places):
    usual, apart, letter = text.trailing_space(train, held_out, places, rng, V)
    return {"spellings": {name: text.spellings(t) for name, t in known.items()},
            "lonely": {name: text.lonely_spaces(t, train) for name, t in known.items()},
            "places": places, "nats_usual": usual, "nats_apart": apart, "letter_follows": letter}


def of_code(gpt2, train, seen, unseen, V):
    tokenizers = {"GPT-2": gpt2} if gpt2 else {}
    for name, rule, source in (
            ("Shakespeare", "gpt2", train), ("the language reference", "gpt2", load("python").text),
            ("Python sources", "gpt2", seen), ("the same, cl100k's rule", "cl100k", seen)):
        tokenizers[name] = FastBPE.train(source, V, rule)
    return {"V": V, "learned_from": text.code(tokenizers, unseen)}


def of_glitches(gpt2, train, whole, sizes, seed):
    found = {"unused": pieces.unused(train, sizes), "frozen": pieces.frozen(train[:300_000], seed)}
    if gpt2:
        uses = pieces.usage(gpt2, whole)
        found["unreachable"] = {rule: list(map(len, pieces.unreachable(gpt2, rule)))
                                for rule in ("gpt2", "cl100k", "smollm")}
        found["gpt2"] = {"V": gpt2.vocab_size, "never": int((uses == 0).sum()),
                         "rare": int(((uses > 0) & (uses < pieces.RARE)).sum()),
                         "magikarp": gpt2.encode(pieces.MAGIKARP).tolist(),
                         "magikarp_uses": int(uses[gpt2.encode(pieces.MAGIKARP)[0]])}
    return found


def show(record):
    for title, rows, says in report.topics(record):
        print_table(rows, title)
        console().print(textwrap.fill(says, 78) + "\n", markup=False, soft_wrap=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="less of everything, a few seconds")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "pathologies", metavar="DIR",
                        help="where pathologies.json and .svg go (runs/pathologies)")
    options = parser.parse_args()
    if options.seed < 0:
        parser.error("--seed must be 0 or more")
    path = options.out / ("pathologies-fast.json" if options.fast else "pathologies.json")
    try:
        prepare(options.out)
        record = plain(measure(options.fast, options.seed))
        written = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_atomically(path, written.encode())
        if record["gpt2"]:
            figure(report.draw, record, path.with_suffix(".svg"))
    except KeyboardInterrupt:
        say("pathologies: stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"pathologies: {error}")
        sys.exit(2)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
        return
    show(record)
    say(f"{path.name} is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
