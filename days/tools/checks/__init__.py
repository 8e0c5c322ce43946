"""The checks: what `python -m days verify` holds the course to."""
