"""Day 33 · Common mistakes with the block and its accounts, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the feed-forward has no activation",
        file="llm/layers/block.py",
        right="        return self.down(self.activation(self.up(x)))",
        wrong="        return self.down(self.up(x))",
        symptom="Shapes and parameter counts are right, but two matrices in a row are one matrix: "
                "the block learns little more than attention alone."),
    Mistake(
        title="thinking starts from the block's input again",
        file="llm/layers/block.py",
        right="        return self.think(self.mix(x, rng), rng)",
        wrong="        return self.think(x, rng)",
        symptom="No token knows any other, and attention's weights get no gradient."),
    Mistake(
        title="the random generator stops at the first branch",
        file="llm/layers/block.py",
        right="        return self.think(self.mix(x, rng), rng)",
        wrong="        return self.think(self.mix(x), rng)",
        symptom="Attention's branch is never dropped; the loss on training text falls a little "
                "faster than it should."),
    Mistake(
        title="a multiplication and an addition are counted as one FLOP",
        file="llm/layers/block.py",
        right="    return 2 * (4 + 2 * ratio) * C * C + 4 * T * C",
        wrong="    return (4 + 2 * ratio) * C * C + 2 * T * C",
        symptom="The machine seems to reach half of its peak, whatever one does."),
    Mistake(
        title="attention's T × T weights are left out of the memory plan",
        file="llm/layers/block.py",
        right="    return (8 + 2 * ratio) * C + H * T + 2",
        wrong="    return (8 + 2 * ratio) * C + 2",
        symptom="A run planned with short texts fits; with long ones it dies for want of memory."),
]
