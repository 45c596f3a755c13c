"""What a plugin author imports. Everything here is public; a change is announced, and comes with a new version.

A plugin imports this module and nothing else of dcbench. `dcbench.hookspecs` lists the hooks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dcbench.hookspecs import Progress, hookimpl
from dcbench.utils.errors import DcbenchError

if TYPE_CHECKING:
    from dcbench.condense.coresets import FeatureCoreset, ScoreCoreset
    from dcbench.core.architecture import Architecture, new_network, without_classifier
    from dcbench.core.component import Component, option
    from dcbench.core.condensed_set import CondensedSet, SetTraits
    from dcbench.core.dataset import Dataset, DatasetInfo, Split, Splits
    from dcbench.core.loss_watch import Diverged
    from dcbench.core.measure import Measure
    from dcbench.core.method import Checkpoint, Extendable, Method, Setting, Start, Task
    from dcbench.core.split import ResidentSplit
    from dcbench.core.trained_network import NetworkRecipe, TrainedNetwork
    from dcbench.engine.augment import augment
    from dcbench.engine.features import feature_matching_gradient
    from dcbench.engine.matching import gradient_targets, loss_gradient, matching_gradient, matching_gradient_to
    from dcbench.engine.optimizer import SGD
    from dcbench.engine.siamese import SiameseAugmentation, suitable_strategy
    from dcbench.engine.trained_networks import teacher_recipe
    from dcbench.engine.training import accuracy, logits, train_network
    from dcbench.engine.unrolled import trajectory_matching_gradient
    from dcbench.evaluate.accuracy import Accuracy
    from dcbench.formats.images import IMAGE_ENDINGS, open_image
    from dcbench.formats.npz import ArrayFile, open_arrays
    from dcbench.results.records import Record
    from dcbench.run.observer import Observer
    from dcbench.utils.seeds import seeded_globals

__all__ = [
    "IMAGE_ENDINGS",
    "SGD",
    "Accuracy",
    "Architecture",
    "ArrayFile",
    "Checkpoint",
    "Component",
    "CondensedSet",
    "Dataset",
    "DatasetInfo",
    "DcbenchError",
    "Diverged",
    "Extendable",
    "FeatureCoreset",
    "Measure",
    "Method",
    "NetworkRecipe",
    "Observer",
    "Progress",
    "Record",
    "ResidentSplit",
    "ScoreCoreset",
    "SetTraits",
    "Setting",
    "SiameseAugmentation",
    "Split",
    "Splits",
    "Start",
    "Task",
    "TrainedNetwork",
    "accuracy",
    "augment",
    "feature_matching_gradient",
    "gradient_targets",
    "hookimpl",
    "logits",
    "loss_gradient",
    "matching_gradient",
    "matching_gradient_to",
    "new_network",
    "open_arrays",
    "open_image",
    "option",
    "seeded_globals",
    "suitable_strategy",
    "teacher_recipe",
    "train_network",
    "trajectory_matching_gradient",
    "without_classifier",
]

_MODULES = (
    "condense.coresets",
    "core.architecture",
    "core.component",
    "core.condensed_set",
    "core.dataset",
    "core.loss_watch",
    "core.measure",
    "core.method",
    "core.split",
    "core.trained_network",
    "engine.augment",
    "engine.features",
    "engine.matching",
    "engine.optimizer",
    "engine.siamese",
    "engine.trained_networks",
    "engine.training",
    "engine.unrolled",
    "evaluate.accuracy",
    "formats.images",
    "formats.npz",
    "results.records",
    "utils.seeds",
    "run.observer",
)


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for: a plugin of suites alone starts without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in _MODULES:
        provided = vars(import_module(f"dcbench.{module}"))
        globals().update({each: provided[each] for each in __all__ if each in provided})
    return globals()[name]
