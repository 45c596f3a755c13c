"""Suites: published tables as one command each. The files beside this one say what is in them."""

from pathlib import Path

from dcbench.api import hookimpl


@hookimpl
def dcbench_register_suites() -> list[Path]:
    """Provide the suites."""
    return sorted(Path(__file__).parent.glob("*.toml"))
