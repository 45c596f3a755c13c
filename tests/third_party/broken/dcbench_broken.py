"""A plugin that cannot be imported, since a module that it needs is not there."""

import nowhere_to_be_found  # noqa: F401
