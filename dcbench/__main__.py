"""``python -m dcbench``: the command, where its script is not on the path."""

from dcbench.cli import main

main(prog_name="dcbench")
