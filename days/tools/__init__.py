"""The tools behind `python -m days`, grouped by who needs them."""
