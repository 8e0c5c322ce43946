"""Fine-tuning: chat format, instructions, low-rank and other small changes."""
