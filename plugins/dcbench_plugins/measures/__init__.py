"""Measures, a file each."""
