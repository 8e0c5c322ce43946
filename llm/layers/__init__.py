"""Modules: functions with named parameters."""
