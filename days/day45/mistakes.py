"""Day 45 · Mistakes that people make with four bits; each makes tests/test_day45.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The error is passed on by the root of H instead of that of its inverse",
        file="llm/quantize/gptq.py",
        right="    return np.triu(np.linalg.solve(V, np.eye(len(V))))",
        wrong="    return V",
        symptom="The later weights are moved the wrong way, and the layer is worse than rounded to "
                "nearest. With inputs that are not correlated nothing is wrong."),
    Mistake(
        title="The inverse is cut down where it should be eliminated from",
        file="llm/quantize/gptq.py",
        right="    U, w, of = inverse_root(H[np.ix_(order, order)]), w[order], order // group",
        wrong="    U, w, of = np.linalg.inv(H[np.ix_(order, order)]), w[order], order // group\n"
              "    U = np.triu(U / np.sqrt(U.diagonal())[:, None])",
        symptom="The first input is treated rightly. From the second on, errors are also passed to "
                "weights that cannot move any more, and are lost."),
    Mistake(
        title="The scales are those of the old order",
        file="llm/quantize/gptq.py",
        right="w[order], order // group",
        wrong="w[order], np.arange(K) // group",
        symptom="With act_order many weights are clipped, since they are rounded on the grid of "
                "another group. Without it nothing is wrong."),
    Mistake(
        title="The integers are put back by the wrong permutation",
        file="llm/quantize/gptq.py",
        right="    back[order] = q",
        wrong="    back[:] = q[order]",
        symptom="The layer's error is hundreds of times larger. Where the order is its own "
                "inverse, a swap of two, the bug hides."),
    Mistake(
        title="The weights behind the block are never told",
        file="llm/quantize/gptq.py",
        right="        w[last:] -= U[first:last, last:].T @ errors\n",
        wrong="",
        symptom="Layers with at most as many inputs as a block are right. Larger ones lose a part "
                "of the gain, and nobody notices."),
    Mistake(
        title="An input that was always 0 makes the Hessian singular",
        file="llm/quantize/gptq.py",
        right="    H[np.diag_indices_from(H)] += np.where(dead, 1.0, damp * mean)",
        wrong="    H[np.diag_indices_from(H)] += np.where(dead, 0.0, damp * mean)",
        symptom="All is well until a layer has one channel that the calibration text never wakes; "
                "then the Cholesky factor does not exist."),
    Mistake(
        title="q is chosen for a scale that is not the one stored",
        file="llm/quantize/int4.py",
        right="    return half((w.max(axis=0) - minimum) / ((1 << bits) - 1)), minimum",
        wrong="    return (w.max(axis=0) - minimum) / ((1 << bits) - 1), minimum",
        symptom="The file, which has room for a float16, is a little worse than what was measured "
                "before it was written: 15 steps carry 15 times the scale's rounding."),
    Mistake(
        title="The scale is given to the weights and never taken from the inputs",
        file="llm/quantize/awq.py",
        right="    array[..., first:first + len(s)] /= s",
        wrong="    array[..., first:first + len(s)] /= 1",
        symptom="Each matrix passes its own test. The model writes nonsense."),
    Mistake(
        title="The minimum is forgotten for inputs past the half of a group",
        file="llm/kernels/int4.py",
        right="            total += a + b",
        wrong="            total += a",
        symptom="Products are off by minimum times a sum of activations. Symmetric activations "
                "hide it, since their sum is near 0."),
    Mistake(
        title="Neighbouring inputs share a byte",
        file="llm/kernels/int4.py",
        right="    halves = padded.reshape(G, 2, HALF, tiles(N), R)\n"
              "    packed = halves[:, 0] | halves[:, 1] << 4 ",
        wrong="    halves = padded.reshape(G, HALF, 2, tiles(N), R)\n"
              "    packed = halves[:, :, 0] | halves[:, :, 1] << 4 ",
        symptom="Sizes and scales are right, and every product is wrong: GGUF pairs input j with "
                "input j + 16."),
]

EQUIVALENT = [
    ("llm/quantize/gptq.py", "mean = diagonal[~dead].mean() if not dead.all() else 0.0",
     "where all inputs are dead, each gets a 1 and the mean is not used"),
    ("llm/quantize/gptq.py", "last = min(first + block, K)", "the smaller of two in any order"),
    ("llm/quantize/int4.py", "return np.clip(np.rint(steps), 0, (1 << bits) - 1).astype(np.uint8)",
     "0 clipped from below by steps is steps clipped from below by 0"),
    ("llm/quantize/awq.py", "errors.append(layer_error(w, one.dense(), H))",
     "the error is a square: which matrix is taken from which does not matter"),
    ("llm/kernels/int4.py", "numbers = work[:4 * groups * (GROUP + 1)].view(np.float32)",
     "kernels do not check bounds: a shorter view of the same memory is written all the same"),
]
