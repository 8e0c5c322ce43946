"""The learning paths as data: which days, for whom. Hours and prerequisites come from the notes."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Path:
    """One way through the course."""

    name: str
    reader: str
    days: list
    about: str

    @property
    def anchor(self):
        return re.sub(r"[^\w\- ]", "", self.name.lower()).replace(" ", "-")


PATHS = [
    Path("Fundamentals", "new to machine learning", [*range(1, 22), 24, 25, *range(27, 36)],
         "From the first dot product to a GPT that you have trained. Nothing is taken for granted "
         "but Python and school algebra. The days ▲ are the spine; the others on this path are "
         "here because a later one builds on them. It leaves out recurrence, diagnostics and the "
         "other tokenizers, none of which the GPT of day 35 needs."),
    Path("Practitioner", "knows the basics of deep learning",
         [7, 8, 24, 25, *range(27, 32), *range(33, 37), 38, *range(40, 44), 47, 48, 49, 52, 53, 54,
          56, 58, 64],
         "For those who have trained networks with a library and want to know what happens inside "
         "a language model: attention, training, decoding, real weights, fine-tuning and serving. "
         "You can differentiate a matrix product and have met Adam; if not, take the days named "
         "below the table first."),
    Path("Deep dive", "wants all of it", list(range(1, 65)),
         "Every day in order, one idea an evening. With five evenings a week it takes a quarter of "
         "a year; a day with all its exercises is more than an evening, so choose among them."),
    Path("Speed", "wants speed", [2, 4, 25, 37, 38, 39, 42, 43, 44, 45, 46, 47, 50, 52],
         "What makes a program fast on a processor with caches, vectors and several cores: from "
         "the dot product over compiled tokenizers and training kernels to an engine that decodes "
         "four-bit weights as fast as the memory delivers them."),
    Path("Fine-tuning", "wants to fine-tune and align models",
         [*range(34, 37), 38, 42, 45, 48, 49, 52, *range(53, 60)],
         "Chat templates, supervised fine-tuning, LoRA and QLoRA, adapters, reward models, PPO, "
         "DPO and GRPO, on small models whose progress can be measured, and on a real one. You "
         "know the transformer and the training loop."),
    Path("Systems", "wants the systems side", [4, 36, 37, 38, 42, 43, 47, 50, 60, 61, 62, 64],
         "Where the bytes and the seconds go: rooflines, checkpoints, precision, caches, batching, "
         "memory accounting, data, tensor and pipeline parallelism, and a server. "
         "[Scaling](scaling.md) tells what changes on a cluster."),
]
