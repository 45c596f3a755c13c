"""A plugin that changes what it is given: it inverts the training images in place."""

import torch

from dcbench.api import CondensedSet, Method, Task, hookimpl


class Inverted(Method):
    """The first images of each class, inverted, as the whole training split then is."""

    name = "inverted"
    depends_on = frozenset({"ipc"})

    def condense(self, task: Task) -> CondensedSet:
        """Invert everything, and select."""
        task.train.images.bitwise_not_()
        chosen = torch.cat([members[: task.ipc] for members in task.train.class_indices])
        return CondensedSet(task.train.normalised(chosen).cpu(), task.synthetic_labels().cpu())


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Inverted]
