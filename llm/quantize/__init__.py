"""Fewer bits for a weight: names and arrays in, smaller arrays out."""
