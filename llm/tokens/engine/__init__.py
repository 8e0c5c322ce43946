"""What the fast tokenizers share: splitting, word tables, merging, caching."""
