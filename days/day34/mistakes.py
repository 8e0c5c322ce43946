"""Day 34 · Mistakes in putting a GPT together; most of them still train."""

from days.mistake import Mistake

MODEL = "llm/models/gpt.py"

MISTAKES = [
    Mistake(
        title="The head reads the table's numbers, not the table",
        file=MODEL,
        right="return head(hidden, self.embed.table)",
        wrong="return head(hidden, self.embed.table.data)",
        symptom="It trains, but slowly and to a worse loss. Rows of tokens that are never an "
                "input keep the value they started with."),
    Mistake(
        title="The table starts like any embedding, with standard deviation 1",
        file=MODEL,
        right="Embedding(config.V, config.C, rng, std=0.02)",
        wrong="Embedding(config.V, config.C, rng)",
        symptom="The first loss is far above ln V, and the wider the model, the farther; the "
                "model is sure that every token comes twice."),
    Mistake(
        title="The last norm is made and never used",
        file=MODEL,
        right="return self.norm(x)",
        wrong="return x",
        symptom="The first loss equals ln V to three decimals, a little too well; two vectors "
                "never get a gradient."),
    Mistake(
        title="What the branches add is not scaled down",
        file=MODEL,
        right="out_std = std / math.sqrt(2 * config.L)",
        wrong="out_std = std",
        symptom="The loss starts where it should, but the stream is wider after each block, the "
                "more so the deeper the model."),
    Mistake(
        title="No position is added",
        file=MODEL,
        right="self.dropout(self.positions(x) if self.positions else x, rng)",
        wrong="self.dropout(x, rng)",
        symptom="Training goes well at first and stops early; one table of the model never moves."),
    Mistake(
        title="Generation keeps the wrong end of the text",
        file=MODEL,
        right="window[-self.config.T:]",
        wrong="window[:self.config.T]",
        symptom="The text is fine for T tokens; from then on every token is drawn from one and "
                "the same distribution."),
    Mistake(
        title="The head's gradient reaches only the token at hand",
        file="llm/functions/tied.py",
        right="return (rows @ table).reshape(x.shape), rows.T @ x.reshape(-1, x.shape[-1])",
        wrong="return (rows @ table).reshape(x.shape), 0 * table",
        symptom="The stream learns, but tokens that are only ever targets keep their rows."),
]
