"""Day 22 · Mistakes that people make here; each makes tests/test_day22.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="each token's gradient stays with its own token",
        file="llm/functions/gru.py",
        right="        dh = dh + dout[:, t]\n",
        wrong="        dh = dout[:, t].copy()\n",
        symptom="The loss falls, only less far: the network learns what one step can teach, as "
                "if every window had one token."),
    Mistake(
        title="the gradient forgets the state that was kept",
        file="llm/functions/gru.py",
        right="        dh = dh * u[:, t]                                        # the highway",
        wrong="        dh = 0 * dh",
        symptom="Training looks normal. What is far back in the window has hardly any influence "
                "on the weights; only a gradient check sees it."),
    Mistake(
        title="the gate's two ends have changed places",
        file="llm/functions/gru.py",
        right="        out[:, t] = h = n[:, t] + u[:, t] * (h - n[:, t])",
        wrong="        out[:, t] = h = h + u[:, t] * (n[:, t] - h)",
        symptom="Forward only, the model is as good as before, since the papers disagree on it; "
                "but weights of PyTorch give nonsense, and a bias that should keep forgets."),
    Mistake(
        title="the reset gate is on the wrong side of the product",
        file="llm/functions/gru.py",
        right="def gru(x, h0, w, wh, b, bh, reset_after=True):",
        wrong="def gru(x, h0, w, wh, b, bh, reset_after=False):",
        symptom="A model trained here is as good as before; weights of PyTorch give nearly the "
                "right logits."),
    Mistake(
        title="every window begins with an empty state",
        file="llm/train/recurrent.py",
        right="        loss, states = model.loss(ids, targets, None if fresh else states)",
        wrong="        loss, states = model.loss(ids, targets)",
        symptom="Nothing fails. The model never learns anything that is longer than a window, "
                "and its first guesses in each window are poor."),
    Mistake(
        title="the windows are shuffled, or overlap, and the states are carried all the same",
        file="llm/train/recurrent.py",
        right="        for at in range(0, rows - length + 1, length):",
        wrong="        for at in range(0, rows - length + 1, length - 1):",
        symptom="The state tells of a text that is not the one before this window; the loss "
                "falls a little slower."),
    Mistake(
        title="while generating, the state is thrown away",
        file="llm/models/gru.py",
        right="                logits, states = self(ids, states)",
        wrong="                logits, _ = self(ids, states)",
        symptom="The loss is good and the text is not: each character knows the one before it "
                "and nothing else."),
]

EQUIVALENT = [
    ("llm/kernels/gru.py", "ROWS = 4" + 43 * " " + "# texts that share one reading of wh",
     "how many texts share a reading of wh changes the time alone"),
]
