"""A plugin whose hook is mistyped: `dcbench_register_method`, without the s."""

from dcbench.api import Method, hookimpl


@hookimpl
def dcbench_register_method() -> list[type[Method]]:
    """Provide nothing, since nobody calls this."""
    return []
