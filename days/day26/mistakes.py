"""Day 26 · Common mistakes with WordPiece and Unigram, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="WordPiece's score is the count",
        file="llm/tokens/learn/wordpiece.py",
        right="            value = gain(m, counts[a], counts[b], total, a == b)",
        wrong="            value = float(m)",
        symptom="The vocabulary is what byte-pair encoding learns, piece for piece."),
    Mistake(
        title="the shortest match wins",
        file="llm/tokens/cut/longest.py",
        right="        if piece >= 0:\n            longest, last = piece, j",
        wrong="        if piece >= 0 and longest < 0:\n            longest, last = piece, j",
        symptom="Every word becomes single characters, whatever the vocabulary holds."),
    Mistake(
        title="only the unknown part of a word is unknown",
        file="llm/tokens/cut/longest.py",
        right="                out, piece, i = token_starts[w], unknown, end",
        wrong="                piece, i = unknown, end",
        symptom="Words with a strange character give some pieces and then [UNK], where BERT has "
                "one [UNK] for the whole word."),
    Mistake(
        title="the E-step does not divide by the sum over all cuts",
        file="llm/tokens/cut/lattice.py",
        right="np.exp(scores[piece] + after[j - begin] - after[i - begin])",
        wrong="np.exp(scores[piece] + after[j - begin])",
        symptom="Expected counts shrink with the length of the word, so training hears short words "
                "only."),
    Mistake(
        title="the next piece is drawn by its own probability alone",
        file="llm/tokens/cut/paths.py",
        right="        dart, chosen = coins[steps], i\n"
              "        for piece, j in matches(data, i, end, trie, len(scores) - 1):\n"
              "            share = np.exp(scores[piece] + after[j - begin] - after[i - begin])\n",
        wrong="        dart, chosen, total = coins[steps], i, 0.0\n"
              "        for piece, j in matches(data, i, end, trie, len(scores) - 1):\n"
              "            total += np.exp(scores[piece])\n"
              "        for piece, j in matches(data, i, end, trie, len(scores) - 1):\n"
              "            share = np.exp(scores[piece]) / total\n",
        symptom="Every sampled cut is a valid one, but short frequent pieces come far too "
                "often, and a word that is a piece by itself is hardly ever left whole."),
    Mistake(
        title="pieces are pruned by their count",
        file="llm/tokens/learn/unigram.py",
        right="            lost[p] = counts[p] * (scores[p] - cost[b - a])",
        wrong="            lost[p] = counts[p]",
        symptom="Pieces that could stand in for each other, such as the, th and he, all stay, and "
                "longer ones that nothing replaces go."),
    Mistake(
        title="of equally good cuts the last one found stays",
        file="llm/tokens/cut/paths.py",
        right="            if left[k] < 0 or total > cost[k]:",
        wrong="            if left[k] < 0 or total >= cost[k]:",
        symptom="Ordinary text gets the ids of Hugging Face's tokenizers; aaaa, and other words "
                "with two best cuts, do not."),
    Mistake(
        title="each unknown character is a token of its own",
        file="llm/tokens/cut/paths.py",
        right="        while s < steps and (via[cuts[s]] == unknown or via[cuts[s]] == unk):",
        wrong="        if s < steps and (via[cuts[s]] == unknown or via[cuts[s]] == unk):",
        symptom="Two unknown characters side by side are <unk> <unk>, where others have one."),
]
