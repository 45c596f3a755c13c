"""A plugin that takes the name of another: `first_images`."""

import torch

from dcbench.api import CondensedSet, Method, Task, hookimpl


class LastImages(Method):
    """The last images of each class."""

    name = "first_images"
    depends_on = frozenset({"ipc"})

    def condense(self, task: Task) -> CondensedSet:
        """Select them."""
        return CondensedSet.select(task.train, torch.cat([c[-task.ipc :] for c in task.train.class_indices]))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [LastImages]
