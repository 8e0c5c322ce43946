"""Day 42 · Mistakes that people make with a cache; each makes tests/test_day42.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Every chunk starts at position 0",
        file="llm/generate/decode.py",
        right="    positions = np.arange(start, start + n)",
        wrong="    positions = np.arange(n)",
        symptom="The prompt is read well. From the first new token on, the model writes as if "
                "every token stood at the beginning of a text."),
    Mistake(
        title="The mask forgets the tokens in the cache",
        file="llm/generate/decode.py",
        right="        scores = np.where(np.tri(n, end, start, dtype=bool), scores, -np.inf)",
        wrong="        scores = np.where(np.tri(n, end, dtype=bool), scores, -np.inf)",
        symptom="One token at a time and the whole prompt at once are right. A prompt in chunks "
                "is wrong: the second chunk sees only the first tokens of the text."),
    Mistake(
        title="The keys are stored before they are turned, and never turned",
        file="llm/generate/decode.py",
        right="            q, k = turn(q, positions, arch.rotary), turn(k, positions, "
              "arch.rotary)\n        cache.write(i, k, v)",
        wrong="            q = turn(q, positions, arch.rotary)\n        cache.write(i, k, v)",
        symptom="Scores depend on where the query stands and no longer on the distance: fluent "
                "for a few tokens, nonsense soon after."),
    Mistake(
        title="Closing the gap without turning the keys back",
        file="llm/generate/cache.py",
        right="            self.write(layer, turn(k, np.full(kept, -count), arch.rotary), v)",
        wrong="            self.write(layer, k, v)",
        symptom="All is well until the window is full for the first time; then new tokens stand "
                "before the old ones, and the text falls apart."),
    Mistake(
        title="The cache counts its tokens once for each layer",
        file="llm/generate/decode.py",
        right="        x = x + feed_forward(arch, weights, block, y)\n    cache.advance(n)",
        wrong="        x = x + feed_forward(arch, weights, block, y)\n        cache.advance(n)",
        symptom="The second layer writes behind a gap of zeros, and a window of 1,024 is full "
                "after 1,024 / L tokens."),
    Mistake(
        title="The whole text is read again behind itself",
        file="llm/generate/decode.py",
        right="        unread = [new]",
        wrong="        unread = so_far",
        symptom="The model stammers, each step is slower than the one before, and the cache is "
                "full after a few tokens."),
    Mistake(
        title="Query heads are dealt to the key heads in turn",
        file="llm/generate/decode.py",
        right="    scores = q.reshape(K, H // K * n, D) @ k.swapaxes(1, 2) / math.sqrt(D)",
        wrong="    q = q.reshape(H // K, K, n, D).swapaxes(0, 1)\n"
              "    scores = q.reshape(K, H // K * n, D) @ k.swapaxes(1, 2) / math.sqrt(D)",
        symptom="Models with as many key heads as query heads, or with one, are right; grouped "
                "ones speak nonsense, since head h was trained with the keys of h // (H / K)."),
]
