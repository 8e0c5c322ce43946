"""Day 63 · The variants of the study: each is the baseline and one difference.

They stand in the order in which they are run, six at a time. A difference that needs another size
to cost the same (depth) names it. `where` is the first rate to try, in units of the baseline's; the
grid moves from there by itself.
"""

from dataclasses import dataclass, field

BASELINE, AGAIN = "baseline", "baseline again"
FIRST_RATE = 0.004


@dataclass(frozen=True)
class Variant:
    """One row of the study."""

    family: str                    # norm, position, activation, heads, head, shape, …
    change: dict = field(default_factory=dict)       # of the recipe
    where: float = 1.0             # first rate over FIRST_RATE
    shift: int = 0                 # added to both seeds: another draw of everything


VARIANTS = {
    BASELINE: Variant("baseline"),
    AGAIN: Variant("null control", shift=1000),
    "RMSNorm": Variant("norm", {"norm": "rms"}),
    "no norm": Variant("norm", {"norm": "none"}),
    "post-norm": Variant("norm", {"placement": "post"}),
    "no positions": Variant("position", {"position": "none"}),
    "SwiGLU": Variant("activation", {"activation": "swiglu"}),
    "1 head": Variant("heads", {"H": 1}),
    "8 blocks, narrow": Variant("shape", {"L": 8, "C": 24, "H": 2}),
    "SGD, momentum": Variant("optimizer", {"optimizer": "momentum"}, 75.0),
    "Muon": Variant("optimizer", {"optimizer": "muon"}),
    "learned positions": Variant("position", {"position": "learned"}),
    "512 pairs, 32 tokens": Variant("tokenizer", {"pairs": 512}),
    "loud embedding": Variant("start", {"loud": 50.0}),
    "loud, post-norm": Variant("start", {"loud": 50.0, "placement": "post"}),
    "ReLU²": Variant("activation", {"activation": "relu squared"}),
    "12 heads": Variant("heads", {"H": 12}),
    "head of its own": Variant("head", {"tied": False}),
    "ALiBi": Variant("position", {"position": "alibi"}),
    "Adam, no decay": Variant("optimizer", {"optimizer": "adam"}),
    "1 block, wider": Variant("shape", {"L": 1, "C": 66, "H": 3}),
    "ReLU": Variant("activation", {"activation": "relu"}),
    "6 heads": Variant("heads", {"H": 6}),
    "3 blocks, narrower": Variant("shape", {"L": 3, "C": 40, "H": 2}),
    "quiet sinusoids": Variant("position", {"position": "sinusoidal"}),
    "loud sinusoids": Variant("position", {"position": "loud sinusoidal"}),
    "512 pairs, 16 tokens": Variant("tokenizer", {"pairs": 512, "T": 16}),
}
