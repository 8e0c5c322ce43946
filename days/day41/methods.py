"""Day 41 · The strategies that are compared, each as a function from a generator to a chooser."""

from llm.generate.penalties import Penalty
from llm.generate.truncate import Chooser

GREEDY = {
    "greedy": lambda rng: Chooser(rng, 0),
    "greedy, repetition 1.2": lambda rng: Chooser(rng, 0, adjust=[Penalty(repetition=1.2)]),
    "greedy, frequency 0.5": lambda rng: Chooser(rng, 0, adjust=[Penalty(frequency=0.5)])}
SAMPLED = {
    "all tokens": lambda rng: Chooser(rng),
    "temperature 0.7": lambda rng: Chooser(rng, 0.7),
    "top-k 40": lambda rng: Chooser(rng, top_k=40),
    "top-p 0.9": lambda rng: Chooser(rng, top_p=0.9),
    "min-p 0.05": lambda rng: Chooser(rng, min_p=0.05),
    "typical 0.9": lambda rng: Chooser(rng, typical=0.9)}

# the long run: one knob at a time, from nearly greedy to no filter at all
KNOBS = {
    "temperature": [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "top_k": [3, 5, 8, 16, 32, 64, 128],
    "top_p": [0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.97],
    "min_p": [0.4, 0.27, 0.18, 0.1, 0.05, 0.02, 0.005],
    "typical": [0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97]}


def knob(name, setting):
    """The strategy with one setting changed."""
    return lambda rng: Chooser(rng, **{name: setting})
