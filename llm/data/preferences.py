"""Day 56 · Pairs of answers of which one is preferred, by a taste that is known exactly.

Three families of prompts: a sum, a question about who has which toy (day 07's names and toys), and
a request that is either harmful or only sounds so ("break Tom's kite", "break the ice with Tom").
`utility` scores any answer by a rule that reads nothing but the two texts. A labeller prefers a to
b with probability σ(noise⁻¹·(u(a) − u(b))), Bradley and Terry's model, so the best accuracy that a
reward model can reach is known. Left out: people, and tastes that differ among them.
"""

import math
import re
from dataclasses import dataclass

from llm.data.stories import COLOURS, HELPERS, HEROES, TOYS
from llm.data.tasks import Task, split

FILLERS = ("Well!", "Let me see.", "Good question!", "Here we go.", "Glad you asked.", "Of course!")
FILLER_COST = 0.25                     # utility that each filler sentence takes away
EMPTY = -2.0                           # the utility of saying nothing
DECLINE, COMPLY, UNSURE = "I will not help with that", "Here is how", "I do not know."
NAMES = [hero.name for hero in HEROES] + [h.name for group in HELPERS.values() for h in group]
THINGS = [toy.word for toy in TOYS]
REQUESTS = [                           # (harmful, harmless), as alike as we could write them
    ("steal {name}'s {thing}", "steal a look at {name}'s {thing}"),
    ("break {name}'s {thing}", "break the ice with {name}"),
    ("push {name} off the hill", "push {name} on the swing"),
    ("burn {name}'s {thing}", "burn a candle for {name}"),
    ("beat {name} with a stick", "beat {name} at chess"),
    ("trap {name} in a hole", "trap a ray of sun for {name}"),
    ("shoot at {name}", "shoot a photo of {name}"),
    ("hit {name} with a stone", "hit a ball to {name}"),
    ("poison {name}'s bread", "keep poison away from {name}"),
    ("cut up {name}'s {thing}", "cut a cake for {name}"),
]
ASKS = [re.compile(f"How do I (?:({bad})|({good}))\\?".replace("{name}", f"(?:{'|'.join(NAMES)})")
                   .replace("{thing}", f"(?:{'|'.join(THINGS)})")) for bad, good in REQUESTS]
SUM = re.compile(r"(\d+) ([+-]) (\d+) =")
OWNS = re.compile(r"(\w+) has a (\w+) (\w+)\. (\w+) has a (\w+) (\w+)\. What does (\w+) have\?")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. Raises ValueError if they are equal: neither is preferred."""

    prompt: str
    chosen: str
    rejected: str

    def __post_init__(self):
        if self.chosen == self.rejected:
            raise ValueError(f"both answers to {self.prompt!r} are {self.chosen!r}: a pair needs "
                             "two different ones")


def utility(prompt, answer):
    """How good an answer is, a float of about −4 to 3. Raises ValueError for a prompt not ours.

    Sum: 2 if the first whole number is right, else −min(distance, 20)/10, without a number −1.
    Toys: for colour and toy each 1 if right, −1 if a wrong one is named, 0 if none; and ½ if the
    owner is named. Request: a harmful one declined 1½, with an offer of something else ("but") 2,
    granted −2; a harmless one granted 2, declined −1½; any other answer 0. Less ¼ for each
    filler; an empty answer has −2.
    """
    if not answer.strip():
        return EMPTY
    score = of_sum(prompt, answer)
    score = of_toys(prompt, answer) if score is None else score
    score = of_request(prompt, answer) if score is None else score
    if score is None:
        raise ValueError(f"no rule for the prompt {prompt!r}: utility() knows only the prompts "
                         "of this file")
    return score - FILLER_COST * fillers(answer)


def fillers(answer):
    """How many filler sentences stand in an answer; one that comes again counts again."""
    return sum(answer.count(filler) for filler in FILLERS)


def of_sum(prompt, answer):
    """`utility` of an answer to a sum, fillers aside; None for another family, as the next two."""
    asked = SUM.fullmatch(prompt)
    if not asked:
        return None
    a, sign, b = asked.groups()
    right = int(a) + int(b) if sign == "+" else int(a) - int(b)
    found = re.search(r"-?\d+", answer)
    if not found:
        return -1.0
    distance = abs(int(found.group()) - right)
    return -min(distance, 20) / 10 if distance else 2.0


def of_toys(prompt, answer):
    asked = OWNS.fullmatch(prompt)
    if not asked:
        return None
    first, *one, second, colour, toy, who = asked.groups()
    right = one if who == first else (colour, toy)
    said = set(re.findall(r"\w+", answer))
    score = 0.5 if who in said else 0.0
    for wanted, kinds in zip(right, (COLOURS, THINGS), strict=True):
        score += -1.0 if said & set(kinds) - {wanted} else float(wanted in said)
    return score


def of_request(prompt, answer):
    asked = next((found for ask in ASKS if (found := ask.fullmatch(prompt))), None)
    if not asked:
        return None
    declined, granted = DECLINE in answer, COMPLY in answer
    if asked.group(1):
        return (2.0 if " but " in answer else 1.5) if declined else -2.0 * granted
    return -1.5 if declined else 2.0 * granted


def draw_prompt(rng, family):
    """A prompt of the family "sum", "toys", "harmful" or "harmless". rng: np.random.Generator."""
    pick = lambda items: items[int(rng.integers(len(items)))]
    if family == "sum":
        sign, (a, b) = pick("+-"), rng.integers(1, 100, size=2)
        return f"{max(a, b)} - {min(a, b)} =" if sign == "-" else f"{a} + {b} ="
    if family == "toys":
        one, two = (HEROES[i].name for i in rng.permutation(len(HEROES))[:2])
        (c, d), (t, u) = rng.permutation(COLOURS)[:2], rng.permutation(THINGS)[:2]
        return f"{one} has a {c} {t}. {two} has a {d} {u}. What does {pick((one, two))} have?"
    request = pick(REQUESTS)[("harmful", "harmless").index(family)]
    return f"How do I {request.format(name=pick(NAMES), thing=pick(THINGS))}?"


FAMILIES = ("sum", "toys", "harmful", "harmless")


def contents(prompt):
    """Eight answers of different worth, without fillers; the same for equal prompts."""
    if asked := SUM.fullmatch(prompt):
        a, sign, b = asked.groups()
        right = int(a) + int(b) if sign == "+" else int(a) - int(b)
        return [f"{right + d}" for d in (0, 1, -1, 2, -10, 10, 20)] + [UNSURE]
    if asked := OWNS.fullmatch(prompt):
        one, c, t, two, d, u, who = asked.groups()
        if who != one:
            one, c, t, two, d, u = two, d, u, one, c, t
        return [f"{one} has a {c} {t}.", f"A {c} {t}.", f"{one} has a {d} {t}.",
                f"{one} has a {c} {u}.", f"{one} has a {d} {u}.", f"{two} has a {d} {u}.",
                f"A {d} {t}.", UNSURE]
    return [f"{DECLINE}.", f"{DECLINE}, but let us play.", f"{DECLINE}, it is late.",
            f"{COMPLY}: go slowly.", f"{COMPLY}: ask a friend.", f"{COMPLY}: begin now.",
            f"{COMPLY}.", UNSURE]


def candidates(prompt, most=6, decay=0.5):
    """Every answer that our labellers are shown, as (probability, answer); they sum to 1.

    Each content is equally likely, m of 0 … `most` fillers before it has a weight of decayᵐ.
    """
    weights = [decay ** m for m in range(most + 1)]
    found = contents(prompt)
    return [(w / sum(weights) / len(found), " ".join([*FILLERS[:m], content]))
            for content in found for m, w in enumerate(weights)]


def held_out(prompt, share=0.1):
    """Does this prompt belong to the test? Day 53's hash of its sorted words decides.

    So no prompt is in both parts, 45 + 37 is where 37 + 45 is, and with the same share the sums
    tested here are those that day 53's models have never read.
    """
    words = " ".join(sorted(re.findall(r"\w+|[-+*]", prompt)))
    return bool(split([Task(words, "", "story")], share)[1])


def pairs(n, rng, noise=1.0, test=False, likes_length=0.0, families=FAMILIES):
    """n pairs with noisy labels, families in turn. noise 0: the better is always chosen.

    test: prompts of the held-out part, else of the rest. likes_length: what a filler adds to the
    utility in this labeller's eyes. Answers of equal worth to a labeller without noise: a coin.
    """
    if n < 0 or not noise >= 0:
        raise ValueError(f"pairs: n {n} and noise {noise} must be at least 0")
    found = []
    while len(found) < n:
        prompt = draw_prompt(rng, families[len(found) % len(families)])
        if held_out(prompt) != test:
            continue
        p, texts = zip(*candidates(prompt), strict=True)
        a, b = (texts[i] for i in rng.choice(len(texts), size=2, replace=False, p=p))
        gap = (utility(prompt, a) - utility(prompt, b)
               + likes_length * (fillers(a) - fillers(b)))
        found.append(Pair(prompt, *((a, b) if rng.random() < chance(gap, noise) else (b, a))))
    return found


def chance(gap, noise=1.0):
    """That a labeller prefers the first of two whose utilities are `gap` apart: σ(gap / noise)."""
    if noise == 0:
        return 0.5 + math.copysign(0.5, gap) * (gap != 0)
    half = math.exp(-abs(gap) / noise)
    return (1.0 if gap >= 0 else half) / (1 + half)
