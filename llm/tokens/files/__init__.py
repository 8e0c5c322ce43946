"""Vocabulary files: reading and writing what other programs use."""
