"""Day 34 · A GPT before training: its loss, its sizes, its stream by depth; and a batch recited."""

from dataclasses import dataclass

import numpy as np

from days.day34.untrained import first_losses, probes, saved_for_backward, size, windows
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.download import TextError
from llm.data.text import load_or_default
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.gpt2 import load_gpt2
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients

GPT2 = [("small", 768, 12), ("medium", 1024, 24), ("large", 1280, 36), ("XL", 1600, 48)]
BLUE, ORANGE = "#1f5fa8", "#c2571a"


@dataclass(frozen=True)
class Result:
    corpus: str
    starts: list      # rows: tokens, V, C, L, parameters, ln V, σ²/2, expected loss, measured,
                      # its standard error, models, share of tokens that repeat the one before
    sizes: list       # rows: GPT-2 …, all parameters, blocks, tokens, positions, norm; FLOPs
    widths: dict      # "12 scaled" → std of the stream before block 0, after block 0, 1, …
    expected: dict    # the same, derived: [if tokens were unrelated, if they were all alike]
    own: dict         # "12 scaled" → mean logit of the token at hand
    first_loss: dict  # "12 scaled" → loss at the start
    draws: int        # models behind each mean of the four above
    saved: list       # bytes kept for the backward: predicted, measured; tokens
    overfit: list     # training loss on one batch, step by step
    unseen: list      # loss on other text before and after
    recited: list     # characters said again from the first of each window, of how many


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.text[:200_000])
    small = GPTConfig(V=tokenizer.vocab_size, T=64, C=32 if fast else 128, L=4, H=4)
    starts = [first_losses("characters", ids, small, 4 if fast else 24, seed)]
    for V, C, L, models in () if fast else ((1024, 128, 4, 24), (8192, 256, 4, 8)):
        label, pairs = byte_pairs(corpus.text[:1_000_000], V)
        starts.append(first_losses(label, pairs, GPTConfig(V, 64, C, L, C // 64), models, seed))
    if not fast:
        starts.append(first_losses(*byte_pairs(corpus.text[:1_000_000], 50257), GPTConfig(), 8,
                                   seed))
    depths, width, draws = ((2, 8), 64, 2) if fast else ((3, 12, 48), 256, 6)
    by_depth = {f"{L} {kind}": probes(ids, GPTConfig(small.V, 64, width, L, 4), kind == "scaled",
                                      seed, draws)
                for L in depths for kind in ("scaled", "unscaled")}
    return Result(corpus.name, starts,
                  [size(name, GPTConfig(C=C, L=L, H=C // 64)) for name, C, L in GPT2],
                  *({name: found[i] for name, found in by_depth.items()} for i in range(4)), draws,
                  saved_for_backward(ids, small, seed),
                  *recite(ids, tokenizer.vocab_size, 60 if fast else 150, seed))


def byte_pairs(text, V):
    """(label, ids): GPT-2's own tokens for its V; without a network, ours do as well."""
    if V == 50257:
        try:
            return "GPT-2's", load_gpt2().encode(text)
        except TextError as error:
            say(f"{error}; going on with tokens of our own")
    return "byte pairs", FastBPE.train(text, min(V, 8192)).encode(text)


def recite(ids, V, steps, seed):
    """Overfit one batch on purpose, then let the model say it again from its first characters."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(V=V, T=32, C=64, L=2, H=4), rng)
    (inputs, targets), other = (windows(ids, n, 32, rng) for n in (4, 64))
    parameters = model.named_parameters()
    optimizer = AdamW(parameters, decay=0.0)
    losses, unseen = [], [float(model.loss(*other).data)]
    with kernels(), progress(steps, "one batch") as tick:
        for _ in range(steps):
            model.zero_grad()
            loss = model.loss(inputs, targets)
            loss.backward()
            clip_gradients([p.grad for p in parameters.values()], 1.0)
            optimizer.step(3e-3)
            losses.append(float(loss.data))
            tick()
    unseen.append(float(model.loss(*other).data))
    right = sum(int(np.sum(list(model.generate(row[:1], 32, rng, temperature=0)) == wanted))
                for row, wanted in zip(inputs, targets))
    return losses, unseen, [right, targets.size]


def table(result):
    rows = [["V", "C", "L", "parameters", "ln V", "expected", "measured", "± (models)"]]
    for _, V, C, L, parameters, uniform, _, expected, found, error, models, _ in result.starts:
        spread = f"{error:.3f} ({models})" if error else f"- ({models})"
        rows.append([f"{V:,}", C, L, f"{parameters:,}", f"{uniform:.3f}", f"{expected:.3f}",
                     f"{found:.3f}", spread])
    return rows


def show(result):
    print_table(table(result), f"loss before training, nats a token of {result.corpus}")
    print_table([["GPT-2", "parameters", "blocks", "token table", "positions", "MFLOPs a token"]] +
                [[name, f"{total:,}", *(f"{100 * part / total:.1f} %" for part in parts[:3]),
                  f"{parts[4] / 1e6:,.0f}"] for name, total, *parts in result.sizes])
    for name, widths in result.widths.items():
        print(f"{name:>11}: the stream widens from {widths[0]:.3f} to {widths[-1]:.3f}, expected "
              f"{' … '.join(f'{curve[-1]:.3f}' for curve in result.expected[name])}")
    print(f"Kept for the backward: {result.saved[1]:,} bytes for {result.saved[2]} tokens, "
          f"expected {result.saved[0]:,}.")
    print(f"One batch: loss {result.overfit[0]:.2f} → {result.overfit[-1]:.4f} in "
          f"{len(result.overfit)} steps; {result.recited[0]} of {result.recited[1]} characters\n"
          f"recited. On other text {result.unseen[0]:.2f} → {result.unseen[1]:.2f}.")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    label = {"textcoords": "offset points", "va": "center", "annotation_clip": False, "fontsize": 9}
    scaled, deepest = [], ""
    for name, widths in result.widths.items():
        L, kind = name.split()
        color = BLUE if kind == "scaled" else ORANGE
        share = np.arange(len(widths)) / int(L)
        ax.plot(share, widths, color=color, lw=1.8, marker="o", ms=3 if int(L) < 20 else 0)
        ax.fill_between(share, *result.expected[name], color=color, alpha=0.15, lw=0)
        if kind == "scaled":
            scaled.append((L, widths[-1]))
        else:
            deepest = L, widths[-1]
            ax.annotate(f"{L} blocks,\nunscaled", (1, widths[-1]), xytext=(6, 0), color=color,
                        **label)
    ax.annotate(f"{', '.join(L for L, _ in scaled)} blocks,\nscaled", (1, scaled[0][1]),
                xytext=(6, 0), color=BLUE, **label)
    ax.text(0.02, deepest[1], "bands: as derived, for tokens that are unrelated (below)\n"
            "and all alike (above)", fontsize=8, color="0.4", va="top")
    ax.set(xlabel="share of the blocks passed", ylabel="standard deviation of the stream",
           xlim=(0, 1), ylim=(0, None))
    middle = float(np.median([end for _, end in scaled]))
    ax.set_title(f"With branches scaled by 1/√(2L) the stream ends {middle:.2f} wide at any "
                 f"depth;\nwithout, {deepest[0]} blocks widen it to {deepest[1]:.2f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
