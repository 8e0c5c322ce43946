"""Whole language models, from counting to GPT."""
