"""A language model from first principles, in sixty-four days of NumPy and Numba."""
