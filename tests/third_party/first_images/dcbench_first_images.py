"""The first images of each class, in the data set's order."""

import torch

from dcbench.api import CondensedSet, Method, Setting, Task, hookimpl


class FirstImages(Method):
    """The first images of each class."""

    name = "first_images"
    depends_on = frozenset({"ipc"})

    def resolve(self, setting: Setting) -> "FirstImages":
        """Refuse more images per class than there are."""
        setting.require_enough_images()
        return self

    def condense(self, task: Task) -> CondensedSet:
        """Select them."""
        return CondensedSet.select(task.train, torch.cat([c[: task.ipc] for c in task.train.class_indices]))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [FirstImages]
