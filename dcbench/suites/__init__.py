"""Suites: published tables as one command each. `dcbench.suites.file` says what a suite's file holds."""
