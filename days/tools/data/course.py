"""The course as data: sixty-four days in twelve phases, and how to load one day's files."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from days.harness import UsageError

ROOT = Path(__file__).resolve().parents[3]

# ▲ marks the spine: the shortest path to a trained GPT that speaks.
OUTLINE = """
Math, vectors, tokens, tensors
  01 ▲ What is a language model?
  02   Vectors by hand
  03   A tensor engine
  04   Matrix multiplication, six ways
  05   Counting: Markov chains
  06   Smoothing and n-grams
  07 ▲ Entropy, cross-entropy, perplexity
  08   Sampling and temperature
Neural networks
  09   Softmax regression: a neural bigram
  10 ▲ Linear layers and activations
  11   Embeddings and a window
Backpropagation
  12 ▲ Derivatives
  13   Reverse mode on scalars
  14 ▲ Backward by hand
  15 ▲ A tape for tensors
  16 ▲ Modules, and a network that learns to write
  17   SGD and momentum
  18 ▲ RMSProp, Adam, AdamW, Muon
  19 ▲ Learning-rate schedules and clipping
  20   Initialisation
  21 ▲ Normalisation
  22   Recurrence: the GRU
  23   Training dynamics
Tokens, again
  24   Byte-pair encoding
  25   Fast BPE
  26   WordPiece and Unigram
Attention
  27 ▲ Scaled dot-product attention
  28 ▲ The causal mask
  29 ▲ Many heads
  30 ▲ Position
  31   Rotary positions
The transformer block
  32 ▲ Residual streams
  33 ▲ The block
  34 ▲ GPT
The training loop
  35 ▲ Training a GPT on Shakespeare: the main job
  36   Checkpoints
  37   Mixed precision
  38 ▲ Fast training
  39   GPT by hand
  40   Scaling laws
Inference
  41   Decoding strategies
  42   KV cache
  43   A compiled engine
  44   INT8
  45   INT4, GPTQ and AWQ
  46   Speculative decoding
  47   Paged cache and continuous batching
Modern architecture
  48   RMSNorm and SwiGLU
  49   Grouped queries, and Llama
  50   Flash attention
  51   Mixture of experts
  52   Real weights: SmolLM2-135M
Fine-tuning
  53   Chat: supervised fine-tuning
  54   LoRA and QLoRA
  55   Adapters, prefixes, prompts
Alignment
  56   Reward models
  57   RLHF with PPO
  58   DPO, IPO, ORPO
  59   Reasoning: GRPO
Scale and ship
  60   Memory
  61   Data parallelism
  62   Tensor and pipeline parallelism, ZeRO
  63   Research capstone
  64   Ship it
"""


@dataclass(frozen=True)
class Day:
    """One line of the outline."""

    number: int
    title: str
    spine: bool

    @property
    def name(self):
        return f"day{self.number:02d}"


def read_outline(text):
    """The outline as a list of (phase title, [Day, ...])."""
    phases = []
    for line in text.strip().splitlines():
        if line.startswith("  "):
            phases[-1][1].append(Day(int(line[2:4]), line[7:], line[5] == "▲"))
        else:
            phases.append((line, []))
    return phases


PHASES = read_outline(OUTLINE)
DAYS = {day.number: day for _, days in PHASES for day in days}


def number(text):
    """The day a reader typed, "7" or "07" or "day07"; 1 to 64."""
    digits = text.removeprefix("day")
    if not (digits.isascii() and digits.isdigit()) or int(digits) not in DAYS:
        raise UsageError(f"there is no day {text!r}; the days are 1 to {len(DAYS)}")
    return int(digits)


def part(root, day, name):
    """The path of one part of a day: part(root, 7, "run.py") is root/days/day07/run.py."""
    return root / "days" / f"day{day:02d}" / name


def notes(root, day):
    """The day's note, and then the pages beside it."""
    note = part(root, day, "README.md")
    return [note, *(page for page in sorted(note.parent.glob("*.md")) if page != note)]


def test_file(day):
    """The day's test, from the root."""
    return f"tests/test_day{day:02d}.py"


def written(root, day):
    """Is there a note for this day yet?"""
    return part(root, day, "README.md").is_file()


def load(path):
    """Run one Python file of a day as a module of its own and return the module."""
    name = f"{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module      # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module
