"""Derivatives: finite differences, dual numbers, a scalar tape, a tensor tape."""
