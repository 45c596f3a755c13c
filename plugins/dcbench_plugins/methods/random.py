"""Random selection: images of each class drawn uniformly. The baseline below which nothing should be."""

import torch

from dcbench.api import CondensedSet, Method, Setting, Task, hookimpl


class Random(Method):
    """Real images of each class, drawn uniformly without replacement."""

    name = "random"
    depends_on = frozenset({"ipc", "seed"})

    def resolve(self, setting: Setting) -> "Random":
        """Refuse more images per class than there are."""
        setting.require_enough_images()
        return self

    def condense(self, task: Task) -> CondensedSet:
        """Draw ``ipc`` images of each class."""
        chosen = [
            task.train.draw_indices(label, task.ipc, task.generator) for label in range(task.info.num_classes)
        ]
        return CondensedSet.select(task.train, torch.cat(chosen))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Random]
