"""Day 35 · Train a GPT on Shakespeare for a minute, then let it write a page.

Flags of its own: --seconds, --text FILE, --model FILE, --resume, --prompt TEXT, --temperature.
--full is the same training for ten minutes instead of one.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day35 import job, kept
from days.day35.session import Session
from days.harness import UsageError, kernels, main, print_table, progress, save, say

LN2 = float(np.log(2))
MINUTE, LONG = 60.0, 600.0         # seconds of training


@dataclass(frozen=True)
class Result:
    corpus: str
    characters: int
    parameters: int
    steps: int
    seconds: float
    tokens_per_second: float
    val_nats_per_char: float
    ngram_nats_per_char: float
    ngram_order: int
    interrupted: bool
    curve_seconds: list          # the training loss, averaged over stretches of the run
    curve_loss: list
    val_seconds: list            # a sample of the validation text, now and then
    val_loss: list
    page: str
    validated: int               # held-out characters that were scored; fewer where time was up
    ngram_numbers: int           # counted numbers that the n-gram of characters holds
    ngram_sample: float          # its nats a character on the sample of val_loss
    vocabulary: int              # tokens that the model knows
    characters_per_token: float  # in the training text
    counted_order: int           # of the n-gram that counts the model's own tokens
    counted_nats_per_char: float
    together_nats_per_char: float          # of the mean of its probabilities and the model's


def measure(fast, seed, full=False, seconds=None, text=None, model=None, resume=False,
            prompt=None, temperature=0.8):
    """Train, validate, write, compare; `fast` trains a tiny GPT on a little text."""
    if full and (seconds is not None or prompt is not None):
        raise UsageError(f"--full trains for {LONG:.0f} seconds: leave out --seconds and --prompt")
    seconds = (LONG if full else MINUTE) if seconds is None else seconds
    if not (0 < seconds < math.inf and 0 <= temperature < math.inf):
        raise UsageError("--seconds must be above 0 and --temperature at least 0, both finite")
    if prompt is not None and (resume or text and model):
        raise UsageError("--prompt does not train: it needs no --resume, and with --model no "
                         "--text")
    recipe = job.Recipe.small() if fast else job.Recipe()
    corpus = None if prompt is not None and model else job.load_corpus(text or "shakespeare",
                                                                       recipe)
    path = model or kept.path_of(corpus, fast)
    if prompt is not None:
        job.continue_prompt(kept.restore(path), prompt, temperature, np.random.default_rng(seed))
        raise SystemExit(0)
    kept.check_path(path, resume)
    state = kept.restore(path) if resume else job.build(corpus, recipe, seed)
    return work(Session(state, corpus, path, seconds, new=not resume), temperature)


def work(session, temperature):
    """All that is measured. Validation may take a third of the training's time, the page a sixth:
    on a busy machine less is validated and written, and the run ends when it should."""
    state, recipe, seconds = session.state, session.state.recipe, session.seconds
    corpus, V = session.corpus, state.tokenizer.vocab_size
    train, held_out = job.encoded(state, corpus)
    sample = state.tokenizer.encode(corpus.validation[:recipe.glance])
    with kernels():
        job.warm_up(say)
        run = session.train(train, sample)
        with session.stoppable(), progress(len(held_out), "validating") as tick:
            losses = job.token_losses(state, held_out, max(seconds / 3, 5), tick)
        with session.stoppable():
            page = job.write_page(state, recipe.page, temperature, max(seconds / 6, 5))
    scored = job.characters(state, held_out, len(losses))
    if len(losses) < len(held_out) - 1:
        say(f"time was up: validated on the first {scored:,} held-out characters")
    with session.stoppable():
        rival = job.counted_characters(corpus, scored + 1, recipe.orders)
        counted = job.ngram_rival(train, held_out[:len(losses) + 1], V, recipe.token_orders)
    per_token = len(corpus.train) / len(train)
    times, curve = smooth(run)
    nats = (losses, counted.losses, job.together(losses, counted.losses))
    gpt, tokens, both = (float(paid.sum() / scored) for paid in nats)
    return Result(corpus.name, len(corpus.text), state.model.count_parameters(), len(run.losses),
                  round(run.seconds, 2), run.tokens / max(run.seconds, 1e-9), gpt,
                  float(rival.losses.mean()), rival.order, run.interrupted, times,
                  [round(loss / per_token, 4) for loss in curve], [p[0] for p in session.points],
                  [p[1] for p in session.points], page, scored, rival.numbers,
                  float(rival.losses[:recipe.glance - 1].mean()), V, per_token, counted.order,
                  tokens, both)


def smooth(run, points=60):
    """The mean training loss of each of up to `points` stretches, and when each ended."""
    parts = np.array_split(np.array(run.losses), min(points, len(run.losses)))
    ends = np.cumsum([len(p) for p in parts]) / max(len(run.losses), 1) * run.seconds
    return [round(float(t), 2) for t in ends], [round(float(p.mean()), 4) for p in parts]


def table(result):
    rows = [["model", "nats per character", "bits per character"]]
    for name, nats in (
            (f"GPT, {result.parameters:,} parameters", result.val_nats_per_char),
            (f"{result.ngram_order}-gram of characters, Kneser–Ney", result.ngram_nats_per_char),
            (f"{result.counted_order}-gram of tokens, Kneser–Ney", result.counted_nats_per_char),
            (f"GPT and {result.counted_order}-gram: mean of their probabilities",
             result.together_nats_per_char)):
        rows.append([name, f"{nats:.3f}", f"{nats / LN2:.3f}"])
    return rows


def show(result):
    print_table(table(result), title=f"on the last 10 % of {result.corpus}")
    print(f"{result.steps:,} steps in {result.seconds:.0f} s, "
          f"{result.tokens_per_second:,.0f} tokens/s")
    counting = min(result.ngram_nats_per_char, result.counted_nats_per_char)
    behind = result.val_nats_per_char - counting
    print(f"Counting alone still wins over the GPT alone, by {behind:.2f} nats per character."
          if behind > 0 else
          f"The GPT alone beats counting, by {-behind:.2f} nats per character.")
    gained = min(counting, result.val_nats_per_char) - result.together_nats_per_char
    print(f"Together they beat {'counting' if behind > 0 else 'the GPT'} by {gained:.2f}: each "
          "knows what the other does not." if gained > 0 else
          f"Together they are {-gained:.2f} behind the better of the two.")
    if result.interrupted:
        print("Stopped early; --resume goes on from here.")


def draw(result, path):
    import matplotlib.pyplot as plt
    blue, red, grey = "#1f5a99", "#c4501b", "#555555"
    fig, ax = plt.subplots()
    ax.plot(result.curve_seconds, result.curve_loss, color=blue, lw=1.5,
            label="GPT, training batches")
    ax.plot(result.val_seconds, result.val_loss, "o", color=red, mfc="none", ms=5,
            label="GPT, first 10,000 held-out characters")
    ax.plot(result.seconds, result.val_nats_per_char, "o", color=red, ms=6,
            label=f"GPT, all held-out characters: {result.val_nats_per_char:.2f}")
    ax.axhline(result.ngram_sample, color=grey, lw=1, ls=":",
               label=f"{result.ngram_order}-gram, first 10,000: {result.ngram_sample:.2f}")
    ax.axhline(result.ngram_nats_per_char, color=grey, lw=1, ls="--",
               label=f"{result.ngram_order}-gram, all held-out: {result.ngram_nats_per_char:.2f}")
    ax.plot(result.seconds, result.together_nats_per_char, "D", color=blue, ms=6,
            label=f"GPT and counted tokens together: {result.together_nats_per_char:.2f}")
    low = min(result.ngram_nats_per_char, result.val_nats_per_char, result.together_nats_per_char,
              *result.curve_loss)
    ax.set_ylim(low - 0.1, max(result.curve_loss[0] * 0.8, low + 1))
    ax.set_xlabel("seconds of training on this machine")
    ax.set_ylabel("loss, nats per character")
    ahead = result.ngram_nats_per_char - result.val_nats_per_char
    place = "ahead of" if ahead > 0 else "behind"
    ax.set_title(f"After {result.seconds:.0f} s the GPT is {place} counting by {abs(ahead):.2f} "
                 f"nats a character;\nboth together pay {result.together_nats_per_char:.2f}")
    ax.legend(loc="upper right", fontsize=9)
    save(fig, path)


def add_arguments(parser):
    parser.add_argument("--seconds", type=float, help="how long to train (60)")
    parser.add_argument("--text", metavar="FILE", help="train on a UTF-8 text file of yours")
    parser.add_argument("--model", type=Path, metavar="FILE",
                        help="where the model is kept (runs/day35/gpt-NAME-OF-THE-TEXT.npz)")
    parser.add_argument("--resume", action="store_true", help="go on with the kept model")
    parser.add_argument("--prompt", metavar="TEXT",
                        help="do not train: let the kept model continue TEXT")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T",
                        help="of the writing: 0 repeats itself, 1 is the model's own (0.8)")


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
