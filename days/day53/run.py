"""Day 53 · Fine-tuning: a model that completes learns to answer. What does it gain, and lose?

Flags of its own: --data FILE (your examples, one JSON object a line), --steps N for them.
"""

from dataclasses import asdict, dataclass, fields

from days.day35.trained import nats_per_character
from days.day53 import own, packed, real
from days.day53.base import base
from days.day53.solve import Speaker, distinct, right_call
from days.day53.tuned import tasks, tuned
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.tasks import correct
from llm.data.text import load_or_default
from llm.generate.template import Message

FAMILIES = ("sum", "calculator", "question", "story")
PROMPTS = ["37 + 45 =", "What is 37 * 45?", "Tell a story about a mouse named Dot and a red boat.",
           "There once lived a shy fox named Rufus. He lived in an old mill. He had a tiny silver "
           "kite.\nWhat colour is the kite?", "91 - 19 =", "Who are you?",
           "Tell a story about a king.", "To be, or not to be"]


@dataclass(frozen=True)
class Result:
    parameters: int
    seeds: list
    learned: list         # tasks learned from, for each family
    counts: list          # tokens of the examples, of them the assistant's
    tests: int            # tasks asked of each family
    solved: list          # [family, base, share right for each seed]
    completed: float      # sums that the base gets right when it may complete "37 + 45 = "
    called: list          # for each seed: of the calculator's tasks, share of right calls
    lost: list            # [text, base, nats per character for each seed]
    curves: list          # for each seed: [step, nats per answer token, nats per character]
    packing: list         # [how, tokens a row, share filled, answer tokens a step, ms, tokens/s]
    samples: list         # [prompt, base, tuned], each as one line
    real: dict            # of the long run, the fields of real.FullResult; then all else is empty


def measure(fast, seed, full=False, data=None, steps=200):
    """`data` trains on the reader's own examples, shows answers and ends; `full` is SmolLM2."""
    if data is not None:
        own.learn(base(fast), data, steps, seed)
        raise SystemExit(0)
    if full:
        plays = load_or_default("shakespeare", say).validation
        found = real.learn(plays=plays[len(plays) // 2:][:2000])
        return Result(**dict.fromkeys([f.name for f in fields(Result)], []) | {
            "real": asdict(found)})
    start = base(fast)
    seeds = [seed + i for i in range(2 if fast else 3)]
    readers = [tuned(fast, s) for s in seeds]
    train, test = tasks(readers[0].recipe)
    n, characters = (5, 2000) if fast else (60, 40_000)
    asked = {family: distinct(test, family, n) for family in FAMILIES}
    speakers = [Speaker.of(start), *map(Speaker.of, readers)]
    with progress(len(speakers) * len(asked) * n, "asking the models") as tick:
        solved = [[family, *(s.accuracy(asked[family], tick) for s in speakers)]
                  for family in asked]
    completed = [correct(t, speakers[0].go_on(start.tokenizer.encode(f"\n{t.prompt} "), 4))
                 for t in asked["sum"]]
    called = [sum(right_call(s, task) for task in asked["calculator"]) / n for s in speakers[1:]]
    texts = {name: text[len(text) // 2:][:characters] for name, (_, text) in start.texts.items()}
    with kernels():
        lost = [[name, *(nats_per_character(r, text) for r in (start, *readers))]
                for name, text in texts.items()]
    counts, packing = packed.compare(start, train, 3 if fast else 20, seed)
    samples = [[one_line(text) for text in (p, *(s.answer([Message("user", p)])
                                                 for s in speakers[:2]))] for p in PROMPTS]
    return Result(start.model.count_parameters(), seeds,
                  [[f, sum(t.family == f for t in train)] for f in FAMILIES], counts, n, solved,
                  sum(completed) / n, called, lost, [r.curve for r in readers], packing, samples,
                  {})


def mean(values):
    return sum(values) / len(values)


def table(result):
    if result.real:
        rows = [["SmolLM2-135M", "before", "after, mean", "lowest", "highest"]]
        return rows + [[name, f"{b:.2f}", f"{mean(a):.2f}", f"{min(a):.2f}", f"{max(a):.2f}"]
                       for name, b, *a in result.real["rows"]]
    rows = [["what", "base", "tuned, mean", "lowest", "highest"]]
    rows += [[f"{family}: right, of {result.tests}", *(f"{100 * x:.0f} %" for x in
              (b, mean(a), min(a), max(a)))] for family, b, *a in result.solved]
    return rows + [[f"{name}: nats per character", *(f"{x:.3f}" for x in
                    (b, mean(a), min(a), max(a)))] for name, b, *a in result.lost]


def show(result):
    print_table(table(result), "before and after fine-tuning")
    if not result.real:
        print_table(packed.table(result.packing), "padded and packed rows")
    print_table([["prompt", "before", "after"], *(result.samples or result.real["samples"])],
                "the first eight prompts")


def one_line(text, most=140):
    """A text as a table can show it: line breaks as strokes, cut where it is long."""
    text = text.replace("\n", " / ").replace("|", "¦")
    return (text if len(text) <= most else text[:most] + " …") or "(nothing)"


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    if result.real:
        real.draw(real.FullResult(**result.real), fig, left, right)
        save(fig, path)
        return
    for seed, curve in zip(result.seeds, result.curves):
        steps, answers, plays = zip(*curve)
        left.plot(steps, answers, marker="o", ms=3, label=f"seed {seed}")
        right.plot(steps, plays, marker="o", ms=3, label=f"seed {seed}")
    left.set_title("what it learns: answers of the test")
    left.set_ylabel("nats per answer token")
    right.set_title("what it forgets: Shakespeare, held out")
    right.set_ylabel("nats per character")
    for axis in (left, right):
        axis.set_xlabel("step of fine-tuning")
        axis.set_ylim(bottom=0)
    left.legend()
    first, last = result.lost[0][1], mean(result.lost[0][2:])
    fig.suptitle(f"Fine-tuning on tasks alone costs {last - first:.2f} nats per character of "
                 "Shakespeare", x=0.01, ha="left", fontsize=10.5)
    save(fig, path)


def add_arguments(parser):
    parser.add_argument("--data", metavar="FILE",
                        help="fine-tune the base on your JSONL (instruction/output or messages)")
    parser.add_argument("--steps", type=int, default=200, metavar="N",
                        help="steps on your own data (200)")


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
