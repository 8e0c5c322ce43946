"""Numba twins of functions; leaves that import only NumPy and Numba."""
