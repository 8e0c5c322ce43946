"""What the first notes still owe: days that were written before a rule and do not obey it yet.

A day is taken off a list once its note is mended; a new day is never put on one.
"""

# Their Trade-offs do not end with a paragraph that begins "**Reflect.**".
NO_REFLECTION = {*range(1, 20), 21, *range(24, 36), 38}
