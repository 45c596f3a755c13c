"""``python -m dcbench``: the command, where its script is not on the path."""

from dcbench.cli import main

if __name__ == "__main__":  # the processes of a run import this file, too
    main(prog_name="dcbench")
