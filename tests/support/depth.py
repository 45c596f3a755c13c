"""How deep the tests go: whether pytest was called with ``--slow``."""

SLOW = False
"""Set by conftest.py before any test file is imported."""
