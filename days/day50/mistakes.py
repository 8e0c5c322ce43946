"""Day 50 · Mistakes that people make here; each makes tests/test_day50.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the sum of exponentials is not corrected when the maximum grows",
        file="llm/kernels/flash.py",
        right="        l[j] *= correction[j]\n",
        wrong="        l[j] *= np.float32(1)\n",
        symptom="Texts shorter than a tile are right. Later tokens come out too small, and by how "
                "much depends on where the largest score stands."),
    Mistake(
        title="the running maximum starts at 0",
        file="llm/kernels/flash.py",
        right="        m, l = np.full(panels * LANES, -HUGE, np.float32), "
              "np.zeros(panels * LANES, np.float32)",
        wrong="        m, l = np.zeros(panels * LANES, np.float32), "
              "np.zeros(panels * LANES, np.float32)",
        symptom="Ordinary scores are right. Where all of a query's scores are far below 0, its "
                "weights become equal, and its gradients nonsense."),
    Mistake(
        title="the kernel keeps the largest score and forgets the logarithm of the sum",
        file="llm/kernels/flash.py",
        right="            logs[b, h, t] = factor * m[t - start] + np.log(total)",
        wrong="            logs[b, h, t] = factor * m[t - start]",
        symptom="The forward is exact. The first token's gradient is right, and the others are too "
                "large, the more the longer the text."),
    Mistake(
        title="a token does not see itself",
        file="llm/kernels/flash_tiles.py",
        right="np.int32(r - diagonal)\n",
        wrong="np.int32(r - diagonal + 1)\n",
        symptom="The first token's output is the mean of values that it may not see, and the loss "
                "stays a little higher than it should."),
    Mistake(
        title="the mean of the weights' gradients is taken over one tile",
        file="llm/functions/flash.py",
        right="            ds = p * (dp - mean[..., rows, :]) / math.sqrt(q.shape[-1])",
        wrong="            ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) "
              "/ math.sqrt(q.shape[-1])",
        symptom="Right for texts of one tile. For longer ones dq and dk are wrong, dv right, and "
                "training goes on, slower."),
    Mistake(
        title="the way back forgets that scores were divided by √D",
        file="llm/kernels/flash_back.py",
        right="            d[j] = factor * p[j] * (d[j] - mean[j])",
        wrong="            d[j] = p[j] * (d[j] - mean[j])",
        symptom="Outputs and dv are right; dq and dk are √D times too large. Adam hides most of "
                "it."),
    Mistake(
        title="the dropped last panel: lengths are rounded down to whole tiles",
        file="llm/kernels/flash.py",
        right="        panels = min(PANELS, up(T - start, LANES) // LANES)",
        wrong="        panels = min(PANELS, max(1, (T - start) // LANES))",
        symptom="Right for every T that the tile divides. For others the last tokens' output is "
                "whatever stood in memory."),
]

EQUIVALENT = [
    ("llm/kernels/flash_back.py",
     "for t in range(first, up(T, LANES), LANES):           # panels of queries",
     "up(LANES, T) is T from LANES tokens on: the same panels, or one more of zeros"),
    ("llm/kernels/flash_tiles.py", "target = panel[d * LANES:(d + 1) * LANES]",
     "a slice that is too long: LANES numbers of it are written"),
    ("llm/kernels/flash_tiles.py", "for r in range(max(diagonal + 1, 0), n):",
     "a maximum does not mind the order"),
]
