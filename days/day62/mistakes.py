"""Day 62 · Mistakes of divided models; each makes tests/test_day62.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Each rank adds the bias before the sum",
        file="llm/scale/tensor_parallel.py",
        right="        y = leaving(ops.linear(x, self.w, None), comm=self.comm)\n"
              "        return y if self.b is None else y + self.b",
        wrong="        return leaving(ops.linear(x, self.w, self.b), comm=self.comm)",
        symptom="A fresh model, whose biases are 0, is right. After a few steps, or with loaded "
                "weights, the output is off: every bias counts once for each rank."),
    Mistake(
        title="The gradient is not summed where the branch begins",
        file="llm/scale/tensor_parallel.py",
        right='    return (ring_allreduce(comm, np.array(dout, order="C")),)',
        wrong="    return (dout,)",
        symptom="The forward pass is right to the last digit. But each rank hands on only the part "
                "of the gradient that came through its own columns, and the ranks' norms and "
                "embeddings drift apart."),
    Mistake(
        title="Queries, keys and values are cut as if they were one matrix",
        file="llm/scale/tensor_parallel.py",
        right="ColumnParallel(block.mix.inner.qkv, comm, parts=3))",
        wrong="ColumnParallel(block.mix.inner.qkv, comm))",
        symptom="Shapes fit and the loss falls. But with two ranks the first takes all queries "
                "and half of the keys for the queries, keys and values of its heads."),
    Mistake(
        title="The two copies of a tied embedding learn apart",
        file="llm/scale/pipeline.py",
        right="        self.share_embedding()\n        broadcast(",
        wrong="        broadcast(",
        symptom="The loss falls more slowly than in one process. The first and the last rank began "
                "with the same table, and after the first step they have two."),
    Mistake(
        title="Microbatches count alike, whatever they ask for",
        file="llm/scale/pipeline.py",
        right="share = (asked != -100).sum() / max(total, 1)     # of all targets of the batch",
        wrong="share = 1 / self.m",
        symptom="Right as long as all rows have equally many targets; wrong with padding."),
    Mistake(
        title="Each rank clips by the norm of its own part",
        file="llm/scale/group.py",
        right="tree_allreduce(self.comm, np.array([own], np.float64)).item())",
        wrong="own)",
        symptom="Each rank shortens its part by a factor of its own: the direction of the whole "
                "gradient changes, and what should be equal on all ranks no longer is."),
    Mistake(
        title="The third stage keeps the tape of a block",
        file="llm/scale/zero.py",
        right="        return recompute(self.run, x, rng)",
        wrong="        return self.run(x, rng)",
        symptom="Gradients are right and less is sent. But the tape holds on to every gathered "
                "matrix until the backward pass, so that all parameters are there at once."),
]

EQUIVALENT = [
    ("llm/scale/tensor_parallel.py", "split = shares.reshape(*shares.shape[:-1], self.parts, -2)",
     "NumPy takes any negative length for the one that is left open"),
]
