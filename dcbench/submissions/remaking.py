"""Whether a condensed set is the one that its method makes, where that takes no network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from dcbench.condense.condensation import Condensation
from dcbench.core.architecture import Architecture
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.split import ResidentSplit
from dcbench.plugins import Plugins
from dcbench.results.artefacts import Artefacts
from dcbench.results.checked_set import CheckedSet


def is_made_again(checked: CheckedSet, data: LoadedDataset, plugins: Plugins, architecture: Architecture) -> bool:
    """Let the method make a set again, and say whether it is the same, byte for byte.

    This is done for an installed method that uses no network, such as a random choice: what a network computes
    depends on the machine in its last digits. Other sets pass.

    Args:
        architecture: any, since the method must be given one.
    """
    spec, condensed = checked.spec, checked.condensed
    cls = plugins.methods.items.get(spec.method)
    if spec.matching_network or cls is None or cls.version != spec.method_version:
        return True
    with TemporaryDirectory() as folder:
        source = Condensation(cls.configure(spec.options), architecture, checked.origin, condensed.traits)
        train: ResidentSplit = data.train_split(condensed.zca)
        again = source.make(spec, train, Artefacts(Path(folder)), lambda done, total: None, lambda *step: None)
    return again.sha256() == condensed.sha256()
