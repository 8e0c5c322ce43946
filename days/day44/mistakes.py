"""Day 44 · Mistakes that people make with 8 bits; each makes tests/test_day44.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The zero is taken off in 8 bits",
        file="llm/quantize/int8.py",
        right="    steps = quantised.q.astype(np.int16) - spread(",
        wrong="    steps = quantised.q - spread(",
        symptom="Symmetric tensors are right. With a zero of −78 every number of more than "
                "127 steps comes back negative: 127 + 78 does not fit in 8 bits, and NumPy "
                "does not warn."),
    Mistake(
        title="The range need not contain 0",
        file="llm/quantize/int8.py",
        right="    low, high = np.minimum(low, 0).astype(np.float64), "
              "np.maximum(high, 0).astype(np.float64)",
        wrong="    low, high = low.astype(np.float64), high.astype(np.float64)",
        symptom="Tensors with both signs are right. Activations that are all positive lose their "
                "small half: the zero that their range wants is no 8-bit number, and is clipped."),
    Mistake(
        title="One scale along the wrong axis",
        file="llm/kernels/int8_tiles.py",
        right="    q, scale = round_rows(np.ascontiguousarray(w.T), min(group or len(w), len(w)))\n"
              "    return tile_up(q.T.astype(np.int8), scale.T, group)",
        wrong="    q, scale = round_rows(w, w.shape[1])\n"
              "    q = np.rint(w / scale.mean()).clip(-TOP, TOP).astype(np.int8)\n"
              "    return tile_up(q, scale.mean(keepdims=True), None if not group else group)",
        symptom="The text is a little worse and no error appears: a scale for each input cannot "
                "be taken out of the sum over inputs, so one scale for all was made of them."),
    Mistake(
        title="Sums of 16 bits",
        file="llm/kernels/int8.py",
        right="            sums[r] += np.int32(a) + np.int32(b)",
        wrong="            sums[r] += np.int16(a + b)",
        symptom="Small examples are right. Where four products of one sign meet, 64,516 becomes "
                "−1,020."),
    Mistake(
        title="Smoothing forgets the norm's bias",
        file="llm/quantize/smooth.py",
        right="    for name in divided:\n",
        wrong="    for name in divided[:1]:\n",
        symptom="All is well with RMSNorm. With LayerNorm the channels that were to become small "
                "keep their offset, and the model has changed before anything is rounded."),
    Mistake(
        title="The last, short group is forgotten",
        file="llm/quantize/int8.py",
        right="    return [part for part in parts if part.size]",
        wrong="    return parts[:1]",
        symptom="All is well while groups of 32 divide the inputs; the first layer with 100 "
                "inputs is refused, or its last four take another group's scale."),
]
