"""The parts of a GPT whose backward pass is written out by hand: memory, text, functions."""
