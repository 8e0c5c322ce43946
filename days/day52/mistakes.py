"""Day 52 · Common mistakes with real weights, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the two nibbles of a byte are taken for neighbours",
        file="llm/weights/blocks.py",
        right="    return np.concatenate([packed & 15, packed >> 4], axis=1)",
        wrong="    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), 32)",
        symptom="The weights have the right mean and spread, in every block; the model writes "
                "letters at random."),
    Mistake(
        title="queries and keys stay in the order of the file",
        file="llm/weights/llama.py",
        right="    order = np.arange(D).reshape(D // 2, 2).T.reshape(D) ",
        wrong="    order = np.arange(D) ",
        symptom="The model writes good English for a sentence or two, then loses its thread; the "
                "known next token is right, the loss is half as large again."),
    Mistake(
        title="the last four scales of a K-quant lose their high bits",
        file="llm/weights/kquants.py",
        right="    scales = np.concatenate([low & 63, (last & 15) | (low >> 6) << 4], axis=1)",
        wrong="    scales = np.concatenate([low & 63, last & 15], axis=1)",
        symptom="Q4_K and Q5_K files run but speak poorly; half of the weights of a block are too "
                "small, and Q6_K files are fine."),
    Mistake(
        title="a tensor's place is checked, its end is not",
        file="llm/weights/gguf.py",
        right="        if tensor.offset + tensor.size > len(cursor.data):",
        wrong="        if tensor.offset > len(cursor.data):",
        symptom="A file that was cut short opens without a word; the run dies much later, in a "
                "reshape."),
    Mistake(
        title="what a user types may be a control token",
        file="llm/generate/template.py",
        right="        pieces = pattern.split(part) if is_own else [part]",
        wrong="        pieces = pattern.split(part)",
        symptom="All goes well until somebody types <|im_end|> and a system message of his own."),
    Mistake(
        title="perplexity per token is compared between tokenizers",
        file="llm/generate/evaluate.py",
        right="    return -scores.sum() / sum(len(tokenizer.table[i]) for i in ids[1:].tolist())",
        wrong="    return -scores.mean()",
        symptom="All losses are 2 to 4 times as large, and the model of the larger vocabulary "
                "can look worse than the other on a text that it predicts better."),
]

EQUIVALENT = [
    ("llm/weights/scored.py", "before, queue = [-1, *range(len(symbols) - 1)], []",
     "a longer list of what stands before is not read to its end"),
    ("llm/weights/kquants.py", "return (scale[:, :, None] * q).reshape(-1, 256)",
     "NumPy takes any negative number for −1"),
    ("llm/weights/kquants.py", "scales, minima = six_bit(blocks[:, 4:16])",
     "a thirteenth byte is not looked at"),
    ("llm/kernels/lanes.py", "e.prefetch(e.sum(block, ahead + line))",
     "bytes that are asked for early come sooner; they are the same bytes"),
    ("llm/generate/pretrained.py",
     'names = {end: self.file.metadata.get(f"tokenizer.ggml.{end}_token_id", -1)',
     "no id is below 0"),
]
