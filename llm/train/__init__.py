"""Optimizers, schedules, clipping, the loop."""
