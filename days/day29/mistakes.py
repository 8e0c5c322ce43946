"""Day 29 · Common mistakes with heads, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="channels are reshaped into heads without a transpose",
        file="llm/functions/heads.py",
        right="    return x.reshape(B, T, H, C // H).transpose(0, 2, 1, 3)",
        wrong="    return x.reshape(B, H, T, C // H)",
        symptom="All shapes fit and training runs, but a head sees channels of several tokens as "
                "if they were one, and a text's beginning knows its end."),
    Mistake(
        title="heads are merged without moving them back beside each other",
        file="llm/functions/heads.py",
        right="    return x.transpose(0, 2, 1, 3).reshape(B, T, H * D)",
        wrong="    return x.reshape(B, T, H * D)",
        symptom="With one head all is right; with more, outputs are those of other tokens."),
    Mistake(
        title="scores are divided by the root of all channels",
        file="llm/functions/heads.py",
        right="causal_attention(rule.turn(q), rule.turn(k), v, bias=rule.bias(q.shape[2]))",
        wrong="causal_attention(rule.turn(q) / np.sqrt(q.dtype.type(H)), rule.turn(k), v,\n"
              "                                  bias=rule.bias(q.shape[2]))",
        symptom="The more heads, the more evenly each spreads its weights; nothing else is wrong "
                "in the forward, and the gradient check fails."),
    Mistake(
        title="queries are turned, keys are not",
        file="llm/functions/heads.py",
        right="causal_attention(rule.turn(q), rule.turn(k), v,",
        wrong="causal_attention(rule.turn(q), k, v,",
        symptom="Without positions all tests pass; with a rule that turns, scores depend on where "
                "the query stands."),
    Mistake(
        title="the gradient is reshaped into heads without a transpose",
        file="llm/functions/heads.py",
        right="causal_attention_vjp(split_heads(dout, H), q, k, v, weights)",
        wrong="causal_attention_vjp(dout.reshape(q.shape), q, k, v, weights)",
        symptom="The forward is right to the last digit and all shapes fit, but a layer with "
                "several heads hardly learns, and a gradient check fails."),
]

EQUIVALENT = [
    ("llm/functions/heads.py",
     "parts = rule.turn_vjp(dscores @ k), rule.turn_vjp(dscores.swapaxes(-2, -1) @ q), dv",
     "exchanging two axes does not depend on which is named first"),
    ("llm/functions/heads.py", "none = np.zeros((0, 1), np.float32)",
     "tables without rows say that nothing is turned, whatever their width"),
]
