"""Day 46 · Mistakes that people make with speculation; each makes tests/test_day46.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="After a refusal the token is drawn from p, not from the residual",
        file="llm/generate/speculative.py",
        right="    return draw(residual(p, q), rng)",
        wrong="    return draw(p, rng)",
        symptom="The text reads well and the code is shorter. But a token that the draft likes "
                "gets two chances, and comes too often: samples lean towards the draft."),
    Mistake(
        title="The refused guesses stay in the target's cache",
        file="llm/generate/speculative.py",
        right="    target.truncate(len(so_far) - 1)\n    draft.truncate(len(so_far) - 1)\n"
              "    return so_far[start:], len(guesses)",
        wrong="    draft.truncate(len(so_far) - 1)\n    return so_far[start:], len(guesses)",
        symptom="The first refusal spoils everything behind it: the target reads words that "
                "are not in the text."),
    Mistake(
        title="The last row of logits is thrown away",
        file="llm/generate/speculative.py",
        right="    else:                                         # all were kept, and the last row "
              "is still unused\n        so_far.append(draw(chances(choose, logits[-1], so_far), "
              "choose.rng))\n",
        wrong="    if not guesses:\n        so_far.append(draw(chances(choose, logits[-1], "
              "so_far), choose.rng))\n",
        symptom="A round in which all guesses are kept gives γ tokens instead of γ + 1. The text "
                "is right, and a part of the gain is lost."),
    Mistake(
        title="The filters shape the target's distribution but not the draft's",
        file="llm/generate/drafts.py",
        right="            q.append(chances(choose, self.model.read(unread, 1)[0], text))",
        wrong="            q.append(chances(type(choose)(choose.rng), "
              "self.model.read(unread, 1)[0], text))",
        symptom="The text is right, for the rule repairs any draft. But guesses are drawn that the "
                "filters forbid, and a draft that equals the target is refused."),
    Mistake(
        title="The draft says how sure it is of another token than the one it proposes",
        file="llm/generate/drafts.py",
        right="            unread = [draw(q[-1], choose.rng)]",
        wrong="            unread = [int(q[-1].argmax())]",
        symptom="The draft proposes its best token always and reports q as if it had drawn. "
                "More guesses are kept, and likely tokens come too often."),
    Mistake(
        title="The factor τ² is forgotten",
        file="llm/functions/distill.py",
        right="    dlogits *= np.asarray(dout * temperature / rows, dlogits.dtype)",
        wrong="    dlogits *= np.asarray(dout / temperature / rows, dlogits.dtype)",
        symptom="At a high temperature the student hardly learns, and whoever adds the text's own "
                "loss finds that the teacher is not heard."),
]

EQUIVALENT = [
    ("llm/generate/speculative.py", "count = min(count, target.room - len(unread))",
     "the smaller of two in any order"),
]
