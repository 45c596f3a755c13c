"""Random selection: images of each class drawn uniformly. The baseline below which nothing should be."""

import torch

from dcbench.api import CondensedSet, DcbenchError, Method, Setting, Task, hookimpl, option


class Random(Method):
    """Real images of each class, drawn uniformly."""

    name = "random"
    depends_on = frozenset({"ipc", "seed"})

    replacement: bool = option(
        False, "draw with replacement, so that a class may have fewer images", source="dcbench", added_later=True
    )

    def resolve(self, setting: Setting) -> "Random":
        """Refuse more images per class than there are, unless they are drawn with replacement."""
        try:
            setting.require_enough_images()
        except DcbenchError as error:
            if not self.replacement:
                raise DcbenchError(f"{error} --replacement draws some of them more than once.") from None
        return self

    def condense(self, task: Task) -> CondensedSet:
        """Draw ``ipc`` images of each class."""
        if self.replacement:
            chosen = [
                members[torch.randint(len(members), (task.ipc,), generator=task.generator)]
                for members in task.train.class_indices
            ]
        else:
            labels = range(task.info.num_classes)
            chosen = [task.train.draw_indices(label, task.ipc, task.generator) for label in labels]
        return CondensedSet.select(task.train, torch.cat(chosen))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Random]
