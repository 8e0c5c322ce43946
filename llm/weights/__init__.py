"""Weights in files: what the formats hold, and the names that real models give them."""
