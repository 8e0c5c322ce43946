"""Day 26 · What `pathologies.py` measured: a table and its meaning for each topic, and a figure."""

import numpy as np

from days.harness import save
from experiments.pathologies_pieces import MAGIKARP, RARE


def topics(r):
    """(title, rows, what it means) of each topic, from the record."""
    if r["gpt2"]:
        yield pieces_of_numbers(r["numbers"])
    yield sums(r["numbers"])
    yield learning(r["numbers"])
    yield from spaces(r)
    yield code(r["code"])
    yield scripts(r["scripts"])
    yield unused(r["glitch"])
    yield frozen(r["glitch"]["frozen"])
    yield unknown(r["wordpiece"])
    yield ambiguity(r["unigram"])


def pieces_of_numbers(n):
    rows = [["digits", "1 piece", "2", "3", "4"]]
    for many, lead, *shares in n["pieces"]:
        rows.append([f"{many}{', behind a space' * bool(lead)}",
                     *(f"{x:.2%}" if x else "" for x in shares)])
    listed = ", ".join(f"{pattern} {count:,}" for pattern, count in n["patterns"].items())
    return "GPT-2: pieces of a number", rows, (
        f"From 1000 to 9999 the pieces have these digits: {listed} times. So what a piece stands "
        "for, tens or thousands, depends on how the rest was cut; and behind a space a number may "
        "be cut in another way.")


def sums(n):
    rows = [["cut", "share"], *([name, f"{x:.1%}"] for name, x in n["aligned"].items())]
    return "sums of two 4-digit numbers whose columns line up", rows, (
        "All 81 million sums. Lined up: a, b and a + b are cut at the same places, counted from "
        "the right (cuts above the operands aside). Threes from the left fail whenever the sum has "
        "a digit more, from the right never. Yet threes are dear: a column of digits is "
        f"{n['facts']['digits']:,} facts (10 · 10 pairs, with and without a carry), a column of "
        f"threes {n['facts']['threes']:,}.")


def learning(n):
    rows = [["written in", "pieces", "weights", "right: seen", "unseen"]]
    for x in n["learned"]:
        rows.append([x["way"], f"{x['pieces']:,}", f"{x['weights']:,}", f"{x['seen']:.1%}",
                     f"{x['unseen']:.1%}"])
    return "sums of two 3-digit numbers, learned by day 16's network", rows, (
        "Same sums, same steps; seen are sums it was trained on. That 457 comes after 456 is "
        "written in the digits but not in the ids: of whole pieces each must be learned by itself. "
        "Ones first, a carry is known before it is needed. Large models with far more sums do "
        "learn threes, and then it matters that they line up (Singh and Strouse 2024).")


def spaces(r):
    s = r["spaces"]
    for name, rows in s["spellings"].items():
        shown = [[a.replace(" ", "␣"), b.replace(" ", "␣"), c] for a, b, c in rows]
        yield f"one word, six spellings: {name}", [["text", "pieces", "ids"], *shown], (
            "Ids are all that a model is given: what these have in common it must learn from use.")
    rows = [["", "value"]]
    for name, (alone, total) in s["lonely"].items():
        rows += [[f"{name}: spaces before a letter", f"{total:,}"],
                 ["… of them tokens of their own", f"{alone:,}"]]
    rows += [["the next word, cut as usual", f"{s['nats_usual']:.2f} nats"],
             ["the next word, its space cut off and put before", f"{s['nats_apart']:.2f} nats"]]
    yield "a prompt that ends in a space", rows, (
        f"Nats of a 3-gram over {r['V']:,} tokens, at {s['places']:,} places; in both rows it "
        "knows that a space comes. In training a space belongs to the word behind it, so a lone "
        f"one mostly means that no word follows: {1 - s['letter_follows']:.0%} of the probability "
        "behind it goes to other things. Do not end a prompt in a space.")


def code(c):
    rows = [["learned from", "tokens/line", "bytes/token", "white", "'        return x'"]]
    for name, x in c["learned_from"].items():
        rows.append([name, f"{x['tokens_per_line']:.1f}", f"{x['bytes_per_token']:.2f}",
                     f"{x['white_space_tokens']:.0%}", x["indented_line"]])
    return "Python's standard library", rows, (
        f"White: tokens that are white space only. GPT-2 has 50,257 ids, the others {c['V']:,}. "
        "Its rule would allow a piece of many spaces, but it has not even one of two. What was "
        "learned from decides more than the rule.")


def scripts(found):
    names = list(found["English"])[2:]
    rows = [["language", "characters", "bytes", *names, "× English"]]
    for language, x in found.items():
        rows.append([language, x["characters"], x["bytes"], *(x[name] for name in names),
                     f"{x[names[0]] / found['English'][names[0]]:.1f}"])
    return "the same sentence", rows, (
        f"× English is for {names[0]}. A script that the training text lacked is paid by the byte: "
        "a longer wait, a shorter context and, where tokens are billed, a higher bill.")


def unused(g):
    rows = [["vocabulary", "pieces"]]
    says = ("Ours without single bytes. A piece falls out of use where all its places are merged "
            f"further, as {', '.join(map(repr, g['unused'][-1]['examples'][:4]))} were.")
    for x in g["unused"]:
        rows += [[f"ours of {x['V']:,}: not once in its training text", f"{x['never']:,}"],
                 [f"… 1 to {RARE - 1} times", f"{x['rare']:,}"]]
    if "gpt2" in g:
        x, reach = g["gpt2"], g["unreachable"]
        rows += [["GPT-2's: not once in this text", f"{x['never']:,}"],
                 [f"… 1 to {RARE - 1} times", f"{x['rare']:,}"],
                 *([f"GPT-2's pieces, {rule} rule: in no text at all", f"{sum(two):,}"]
                   for rule, two in reach.items())]
        says += (f" Of GPT-2's, {reach['gpt2'][1]} are bytes that UTF-8 never uses; under another "
                 "rule than its own more is lost. One that this text lacks is "
                 f"{MAGIKARP!r}, id {x['magikarp'][0]}, a user of Reddit. Where the vocabulary was "
                 "learned from one text and the model from another, such tokens are never trained, "
                 "and make models babble (Rumbelow and Watkins 2023).")
    return "pieces that are hardly ever used", rows, says


def frozen(f):
    rows = [["", f"the {f['tokens_seen']} bytes in the text", "the others"]]
    for label, key in (("its row at the input", "in"), ("its column at the output", "out"),
                       ("cosine of two columns' movements", "out_cosine")):
        rows.append([label, f"{f['seen'][key]:.4f}", f"{f['unseen'][key]:.4f}"])
    return f"how far a token's weights move in {f['steps']} steps", rows, (
        "A token that never comes has no gradient at the input: its row stays as it was drawn. At "
        "the output all of them are pushed away together, so they end up alike. By this they are "
        "found in models whose text nobody can see (Land and Bartolo 2024).")


def unknown(w):
    rows = [["text", "words lost", "of all characters"]]
    for name, x in w["lost"].items():
        rows.append([name, f"{x['words']:.1%}", f"{x['characters']:.1%}"])
    before, after = w["example"]
    return "WordPiece: words that become [UNK]", rows, (
        f"One character that is not in the vocabulary loses its whole word: {before!r} comes back "
        f"as {after!r}. Vocabularies that hold all bytes lose nothing.")


def ambiguity(u):
    rows = [["word", "best cut", "ways to cut", "share of the best"]]
    for word, best, ways, share in u["words"]:
        rows.append([word.replace(" ", "␣"), best.replace(" ", "␣"), f"{ways:,}", f"{share:.1%}"])
    return "Unigram: the ways to cut a word", rows, (
        f"Over {u['asked']:,} held-out words the best cut has {u['mean_share_of_best']:.1%} of the "
        f"probability on average, and at most {u['fifth_percentile']:.0%} for one word in twenty. "
        "`sample` lets a model see the others too.")


def draw(record, path):
    """Left: how GPT-2 cuts each number from 1000 to 9999. Right: what a script costs."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    colors = ["#cfd8e3", "#1f5a99", "#e09f3e", "#c4501b", "#2a9d8f", "#555555"]
    patterns = list(record["numbers"]["patterns"])
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.4), width_ratios=[1.15, 1])
    grid = np.array(list(map(int, record["numbers"]["map"]))).reshape(90, 100)
    left.imshow(grid, ListedColormap(colors[:len(patterns)]), aspect="auto", vmin=-0.5,
                vmax=len(patterns) - 0.5, interpolation="nearest", extent=(0, 100, 100, 10))
    left.set(xlabel="last two digits", ylabel="first two digits")
    for name, color in zip(patterns, colors):
        left.plot([], [], "s", color=color, label=name)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(patterns),
                handletextpad=0.1, columnspacing=0.9)
    scripts = record["scripts"]
    tax = {name: x["GPT-2"] / scripts["English"]["GPT-2"] for name, x in scripts.items()}
    right.barh(list(tax), list(tax.values()), color="#c4501b", height=0.65)
    for k, value in enumerate(tax.values()):
        right.text(value, k, f" {value:.1f}", va="center")
    right.invert_yaxis()
    right.set(xlabel="tokens for the same sentence, English = 1",
              xlim=(0, 1.15 * max(tax.values())))
    share = next(v for k, v in record["numbers"]["aligned"].items() if k.startswith("GPT-2"))
    worst = max(tax, key=tax.get)
    fig.suptitle(f"GPT-2 cuts 4-digit numbers in {len(patterns)} ways: the columns of "
                 f"{share:.0%} of sums line up;\none sentence takes {tax[worst]:.1f} times as many "
                 f"tokens in {worst} as in English", x=0.01, ha="left", fontsize=11)
    save(fig, path)
