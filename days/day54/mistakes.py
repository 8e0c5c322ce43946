"""Day 54 · Mistakes that people make with LoRA; each makes tests/test_day54.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="B is drawn at random, like A",
        file="llm/tune/lora.py",
        right="        self.b = parameter(np.zeros((rank, base.cout), dtype))",
        wrong="        self.b = parameter(rng.uniform(-bound, bound, (rank, base.cout))"
              ".astype(dtype))",
        symptom="The very first loss is higher than that of the model without adapters: a random "
                "change has been added to every matrix, and the first steps go into removing it."),
    Mistake(
        title="The change is scaled by α and not by α/r",
        file="llm/tune/lora.py",
        right="        self.scale = alpha / (math.sqrt(rank) if rslora else rank)",
        wrong="        self.scale = alpha",
        symptom="A folder that peft wrote gives other answers here, and a rate that was good at "
                "rank 4 makes the loss jump at rank 64."),
    Mistake(
        title="Merging forgets the scale",
        file="llm/tune/lora.py",
        right="        return np.concatenate([self.scale * (a[:, part] @ b[:, low:high]) "
              "for low, high, part",
        wrong="        return np.concatenate([(a[:, part] @ b[:, low:high]) "
              "for low, high, part",
        symptom="The model is good as long as its adapters stand beside it, and worse as soon as "
                "they are merged."),
    Mistake(
        title="Queries, keys and values share the first A",
        file="llm/functions/lowrank.py",
        right="        found.append((low, low + width, slice(p * r, (p + 1) * r)))",
        wrong="        found.append((low, low + width, slice(0, r)))",
        symptom="Everything trains, two thirds of the A beside `qkv` never move, and peft, which "
                "keeps three matrices, computes something else from the same file."),
    Mistake(
        title="The gradient of A forgets the scale",
        file="llm/functions/lowrank.py",
        right="        g[:, part] = scale * (rows[:, low:high] @ b[:, low:high].T)",
        wrong="        g[:, part] = rows[:, low:high] @ b[:, low:high].T",
        symptom="Training works, a little worse: Adam hides the size of A's gradient, but what "
                "goes on to the layers below is wrong."),
    Mistake(
        title="The two halves of a byte are exchanged",
        file="llm/tune/nf4.py",
        right="    four[:, 0], four[:, 1] = codes & 15, codes >> 4",
        wrong="    four[:, 0], four[:, 1] = codes >> 4, codes & 15",
        symptom="Every pair of neighbouring weights has changed places. Means, spreads and "
                "histograms of the weights are all as they should be; the model speaks noise."),
]

EQUIVALENT = [
    ("llm/kernels/lowrank.py",
     "share(4 * logits.size)                                            # an exp each",
     "it chooses how many threads work on the rows, and no number depends on that"),
]
