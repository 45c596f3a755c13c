"""What a plugin author imports. Everything here is public; it changes only with a version and a notice.

A plugin imports this module and nothing else of dcbench. `dcbench.hookspecs` says which hooks there are.
"""

from dcbench.architectures import Architecture, new_network
from dcbench.augment import augment
from dcbench.component import Component, option
from dcbench.condensed import CondensedSet
from dcbench.coresets import FeatureCoreset
from dcbench.data import ResidentSplit
from dcbench.datasets import Dataset, DatasetInfo, Split, Splits
from dcbench.divergence import Diverged
from dcbench.errors import DcbenchError
from dcbench.hookspecs import hookimpl
from dcbench.images import IMAGE_ENDINGS, open_image
from dcbench.matching import gradient_targets, loss_gradient, matching_gradient, matching_gradient_to
from dcbench.methods import Checkpoint, Method, Setting, Task
from dcbench.npz import ArrayFile, open_arrays
from dcbench.progress import Progress
from dcbench.records import Record
from dcbench.training import accuracy, train_network

__all__ = [
    "IMAGE_ENDINGS",
    "Architecture",
    "ArrayFile",
    "Checkpoint",
    "Component",
    "CondensedSet",
    "Dataset",
    "DatasetInfo",
    "DcbenchError",
    "Diverged",
    "FeatureCoreset",
    "Method",
    "Progress",
    "Record",
    "ResidentSplit",
    "Setting",
    "Split",
    "Splits",
    "Task",
    "accuracy",
    "augment",
    "gradient_targets",
    "hookimpl",
    "loss_gradient",
    "matching_gradient",
    "matching_gradient_to",
    "new_network",
    "open_arrays",
    "open_image",
    "option",
    "train_network",
]
