"""Text and batches: text → str → ids."""
