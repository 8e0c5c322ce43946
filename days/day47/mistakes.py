"""Day 47 · Mistakes that people make with blocks and batches; tests/test_day47.py catches each."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="A block's key does not contain what comes before it",
        file="llm/generate/paged.py",
        right="    return hashlib.sha256(before + np.asarray(ids, np.int64).tobytes()).digest()",
        wrong="    return hashlib.sha256(np.asarray(ids, np.int64).tobytes()).digest()",
        symptom="Two prompts with a common middle but different beginnings share the middle's "
                "keys, and one of them hears the other's beginning."),
    Mistake(
        title="A shared block is written without a copy",
        file="llm/generate/paged.py",
        right="        if self.holders[block] == 1:\n            self.forget(block)\n        else:",
        wrong="        if self.holders[block] >= 1:\n            self.forget(block)\n        else:",
        symptom="Two texts that were one until now write into the same places. The one that "
                "writes last is right, the other reads words it never had."),
    Mistake(
        title="A reused block can still be found by what it used to hold",
        file="llm/generate/paged.py",
        right="        del self.free[block]\n        self.forget(block)",
        wrong="        del self.free[block]",
        symptom="All is well until the pool has been full once. Then a prompt that was seen long "
                "ago is answered as if it were another one."),
    Mistake(
        title="Everybody draws from one generator",
        file="llm/generate/request.py",
        right="        self.choose = Chooser(np.random.default_rng(self.seed), **self.options)",
        wrong="        Request.rng = getattr(Request, \"rng\", np.random.default_rng(0))\n"
              "        self.choose = Chooser(Request.rng, **self.options)",
        symptom="Greedy answers are right. Sampled ones change with the number of other users, "
                "and a seed means nothing."),
    Mistake(
        title="A cancelled request keeps its blocks",
        file="llm/generate/scheduler.py",
        right="                place.remove(request)\n"
              "                self.pool.release(request.table)",
        wrong="                place.remove(request)",
        symptom="The server works for days, then admits fewer and fewer requests, and at last "
                "none."),
    Mistake(
        title="Who is sent back reads on where it was",
        file="llm/generate/scheduler.py",
        right="        request.read = len(found) * pool.size",
        wrong="        request.read = max(request.read, len(found) * pool.size)",
        symptom="Only under load: a text goes on after a gap, over keys of somebody else."),
    Mistake(
        title="A prompt that is known as a whole is not read at all",
        file="llm/generate/scheduler.py",
        right="        found = pool.find(request.known[:-1])        # one token must be read, to "
              "have its logits",
        wrong="        found = pool.find(request.known)",
        symptom="The same question twice, its length a multiple of the block: the second time "
                "there are no logits to choose from, and the request never ends or the step "
                "fails."),
    Mistake(
        title="The oldest request is sent back",
        file="llm/generate/scheduler.py",
        right="                victim = self.running.pop()",
        wrong="                victim = self.running.pop(0)",
        symptom="Short requests are served. Long ones are thrown out again and again, just "
                "before they are done."),
    Mistake(
        title="All rows of a batch stand at the same position",
        file="llm/generate/batch.py",
        right="            q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)",
        wrong="            here = np.full(len(ids), positions.max())\n"
              "            q, k = turn(q, here, arch.rotary), turn(k, here, arch.rotary)",
        symptom="Requests that start together and have equally long prompts are right. One that "
                "joins a running batch writes nonsense."),
    Mistake(
        title="One product for all rows, and BLAS adds as it likes",
        file="llm/generate/batch.py",
        right="    for row, y in zip(x, out):\n        np.matmul(row, w, out=y)",
        wrong="    np.matmul(x, w, out=out)",
        symptom="Nearly always right. Now and then a request gets another word than it gets when "
                "it is alone, and nobody can repeat it."),
]

EQUIVALENT = [
    ("llm/generate/batch.py", "out = np.empty((len(x), w.shape[1]), np.result_type(w, x))",
     "the common type does not depend on the order"),
    ("llm/generate/batch.py",
     "if positions.min() < 0 or last >= min(tables.shape[1] * pool.size, arch.T):",
     "neither does the smaller of two"),
    ("llm/kernels/paged.py", "part = w + 4 * ((tile * K * R) - (column))",
     "with AVX-512 a tile is one column of registers, so `column` is always 0"),
]
