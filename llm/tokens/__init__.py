"""Tokenizers: str ↔ ids."""
