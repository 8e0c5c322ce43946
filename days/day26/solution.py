"""Day 26 · Solutions of the exercises."""

import math


def fewest_pieces(text, known):
    """Viterbi where each piece costs 1: best[j] = (pieces used up to j, where the last starts)."""
    longest = max(map(len, known), default=0)
    best = [(0, 0)] + [(math.inf, 0)] * len(text)
    for j in range(1, len(text) + 1):
        best[j] = min(((best[i][0] + 1, i) for i in range(max(0, j - longest), j)
                       if text[i:j] in known), default=best[j])
    if best[-1][0] == math.inf:
        return None
    cut, j = [], len(text)
    while j > 0:
        i = best[j][1]
        cut.append(text[i:j])
        j = i
    return cut[::-1]


def steps(word, scores):
    """For each place of the word, from the last: (place, [(log probability, where it ends)])."""
    longest = max(map(len, scores))
    for i in range(len(word) - 1, -1, -1):
        yield i, [(scores[word[i:j]], j)
                  for j in range(i + 1, min(i + longest, len(word)) + 1) if word[i:j] in scores]


def log_sum_exp(terms):
    """log Σ exp, −inf for no terms or nothing but −inf."""
    top = max(terms, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(t - top) for t in terms))


def log_z(word, scores):
    """B of the note: the log of the sum over all cuts from each place on, (n + 1) numbers."""
    after = [-math.inf] * len(word) + [0.0]
    for i, pieces in steps(word, scores):
        after[i] = log_sum_exp([score + after[j] for score, j in pieces])
    return after


def cut_entropy(word, scores):
    """Entropy adds up along a cut: that of the next piece, and the mean of what follows it."""
    after, entropy = log_z(word, scores), [0.0] * (len(word) + 1)
    for i, pieces in steps(word, scores):
        for score, j in pieces:
            log_share = score + after[j] - after[i]
            if log_share > -math.inf:              # else no cut goes on from there
                entropy[i] += math.exp(log_share) * (entropy[j] - log_share)
    return entropy[0]


def exact_loss(words, scores, piece):
    """log Z with the piece less log Z without it, word by word."""
    rest = {other: score for other, score in scores.items() if other != piece}
    return sum(count * (log_z(word, scores)[0] - log_z(word, rest)[0])
               for word, count in words.items())
