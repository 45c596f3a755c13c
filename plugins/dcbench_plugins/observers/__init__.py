"""Experiment trackers that runs may be written for."""
