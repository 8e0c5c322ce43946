"""The days of the course, and its tools: `python -m days`."""
