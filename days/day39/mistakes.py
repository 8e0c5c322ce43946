"""Day 39 · Mistakes that people make here; each makes tests/test_day39.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the gradient that comes past the branch is overwritten",
        file="llm/models/by_hand/plain.py",
        right="    dx += rstd[:, None] * (d - d.mean(axis=1, keepdims=True)",
        wrong="    dx[:] = rstd[:, None] * (d - d.mean(axis=1, keepdims=True)",
        symptom="The model trains, slowly: each block hears only what its own branch sends back, "
                "and the first blocks hear almost nothing."),
    Mistake(
        title="a token that occurs twice is counted once",
        file="llm/models/by_hand/plain.py",
        right="    np.add.at(dtable, ids, dx)",
        wrong="    dtable[ids] += dx",
        symptom="The loss falls, but less than on the tape: frequent tokens learn from one of "
                "their places in the batch."),
    Mistake(
        title="an array is given away that the way back still needs",
        file="llm/models/by_hand/buffers.py",
        right='        add(f"{i}.mid", (N, C), range(mix, back[0] + 1))',
        wrong='        add(f"{i}.mid", (N, C), range(mix, think + 1))',
        symptom="The loss is right and the gradients are not, in the blocks whose memory another "
                "array got."),
    Mistake(
        title="a matrix's gradient is taken before the norm's output is back",
        file="llm/models/by_hand/text.py",
        right="        f.norm_back(s.h, b.gain2, b.bias2, k.mean2, k.rstd2, k.mid, s.dx,\n"
              "                    d.gain2, d.bias2, d.project_b)\n"
              "        f.matmul(k.mid.T, s.dup, d.up)",
        wrong="        f.matmul(k.mid.T, s.dup, d.up)\n"
              "        f.norm_back(s.h, b.gain2, b.bias2, k.mean2, k.rstd2, k.mid, s.dx,\n"
              "                    d.gain2, d.bias2, d.project_b)",
        symptom="Nothing crashes. One matrix a block gets the gradient for the stream's values and "
                "not for the normalised ones."),
    Mistake(
        title="each worker divides by its own number of targets",
        file="llm/models/gpt_by_hand.py",
        right="        loss = text.forward(self.f, self.w, s, count)",
        wrong="        loss = text.forward(self.f, self.w, s, max(int((s.targets >= 0).sum()), 1))",
        symptom="With two workers the loss is twice as high as with one, and clipping cuts in "
                "earlier."),
    Mistake(
        title="clipping is forgotten where it costs no pass",
        file="llm/kernels/by_hand_ends.py",
        right="        d = clip * g[i]",
        wrong="        d = g[i]",
        symptom="As on the tape until the first large gradient; then the loss jumps."),
]

EQUIVALENT = []
