"""Day 14 · Mistakes in gradients written by hand that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="A repeated id overwrites instead of adding",
        file="llm/grad/rules.py",
        right="    np.add.at(dtable, ids, dout)",
        wrong="    dtable[ids] += dout",
        symptom="Training works, but frequent letters learn as slowly as rare ones."),
    Mistake(
        title="The softmax's Jacobian without its second term",
        file="llm/grad/rules.py",
        right="    return (p * (dout - (dout * p).sum(axis=-1, keepdims=True)),)",
        wrong="    return (p * (1 - p) * dout,)",
        symptom="The gradient of a softmax is right where dout has one entry, and only there."),
    Mistake(
        title="Divided by all rows instead of those that count",
        file="llm/grad/rules.py",
        right="    count = max(int(kept.sum()), 1)",
        wrong="    count = max(kept.size, 1)",
        symptom="A batch with much padding shows a wonderfully low loss and hardly learns."),
    Mistake(
        title="The mask of relu lets everything through",
        file="llm/grad/rules.py",
        right="np.where(out > 0, dout, 0)",
        wrong="np.where(out >= 0, dout, 0)",
        symptom="Units that are switched off get gradients as if they were on; no error anywhere."),
    Mistake(
        title="The copies of a broadcast are averaged",
        file="llm/grad/rules.py",
        right="    return total(grad, axis=",
        wrong="    return np.mean(grad, axis=",
        symptom="A scale or shift shared by all rows moves too slowly, the more so the larger the "
                "batch."),
]

EQUIVALENT = [
    ("llm/grad/rules.py",
     "rows = dout.reshape(-2, dout.shape[-1])                       # (N, Cout), N = all "
     "leading axes",
     "NumPy takes every negative length for the one to be found"),
    ("llm/grad/rules.py",
     "dw = x.reshape(-2, x.shape[-1]).T @ rows                      # (Cin, Cout)",
     "NumPy takes every negative length for the one to be found"),
    ("llm/grad/more.py",
     "share = dout.reshape(top.shape) / np.maximum(1, first.sum(axis=reduced, keepdims=True))",
     "the larger of two numbers does not depend on their order"),
]
