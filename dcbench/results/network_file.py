"""The file of a trained network: safetensors, with a JSON header that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.trained_network import NetworkSpec, State
from dcbench.engine.trained_networks import Training
from dcbench.results.set_header import content_sha256
from dcbench.utils.errors import DcbenchError, newer_format
from dcbench.utils.files import write_atomically

FORMAT = "dcbench-network/1"
HELD_OUT = "held_out"


@dataclass(frozen=True)
class StoredNetwork:
    """What the file of a trained network says; see `dcbench.core.trained_network.TrainedNetwork`."""

    spec: NetworkSpec
    accuracy: float
    held_out_accuracy: Mapping[int, float]
    held_out: Tensor
    sha256: str
    path: Path

    def read(self, epoch: int) -> State:
        """Return the state after an epoch, from the file."""
        prefix = f"{epoch}/"
        with safe_open(self.path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def save_network(path: Path, spec: NetworkSpec, training: Training) -> None:
    """Write a trained network, in one piece or not at all. Its bytes depend on the network alone."""
    tensors = {f"{epoch}/{name}": each for epoch, state in training.states.items() for name, each in state.items()}
    # Cloned, since safetensors refuses views of one tensor.
    tensors = {name: each.clone() for name, each in {**tensors, HELD_OUT: training.held_out}.items()}
    header = {
        "format": FORMAT,
        "spec": spec.model_dump(mode="json"),
        "accuracy": training.accuracy,
        "held_out_accuracy": {str(epoch): each for epoch, each in training.held_out_accuracy.items()},
    }
    header["content_sha256"] = content_sha256(header, {name: each.numpy() for name, each in tensors.items()})
    # One metadata entry: safetensors keeps several in no fixed order.
    write_atomically(path, save_tensors(tensors, metadata={"dcbench": json.dumps(header, sort_keys=True)}))


def read_networks(root: Path) -> tuple[list[StoredNetwork], dict[Path, DcbenchError]]:
    """Read the networks of a results folder; return them, and by path what is wrong with others."""
    stored: list[StoredNetwork] = []
    errors: dict[Path, DcbenchError] = {}
    for path in sorted((root / "networks").glob("[!.]*.safetensors")):
        try:
            stored.append(load_network(path))
        except DcbenchError as error:
            errors[path] = error
    return stored, errors


def load_network(path: Path) -> StoredNetwork:
    """Read what a network's file says, and check it and its tensors.

    Raises:
        DcbenchError: when it cannot be read, is damaged, or is not a network; `NewerFormat` when it is of a newer
            version.
    """
    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, Any] = json.loads(file.metadata()["dcbench"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["content_sha256"] != content_sha256(header, arrays):
            raise DcbenchError(f"{path} is damaged: its content does not match the hash in its header.")
        if header["format"] != FORMAT:
            raise newer_format(f"{path}, a {header['format']},")
        return StoredNetwork(
            NetworkSpec.model_validate(header["spec"]),
            header["accuracy"],
            {int(epoch): each for epoch, each in header["held_out_accuracy"].items()},
            torch.from_numpy(arrays[HELD_OUT]),
            header["content_sha256"],
            path,
        )
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DcbenchError(f"{path} is not a trained network, or is damaged: {error}.") from None
