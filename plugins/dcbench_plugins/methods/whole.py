"""The whole training split: the ceiling that condensation is measured against."""

import torch

from dcbench.api import CondensedSet, Method, Task, hookimpl


class Whole(Method):
    """Every training image, whatever the images per class: the ceiling."""

    name = "whole"
    depends_on = frozenset()

    def condense(self, task: Task) -> CondensedSet:
        """Select everything."""
        return CondensedSet.select(task.train, torch.arange(len(task.train)))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Whole]
