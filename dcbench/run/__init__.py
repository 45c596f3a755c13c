"""Carrying out a run: the plan, its cells, who works on them, and what becomes of them."""
