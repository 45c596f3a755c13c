"""The file of a trained network: safetensors, with a JSON header that says what it is."""

from __future__ import annotations

import hashlib
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
from dcbench.results.sealed import NO_DIGEST, is_intact, seal
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
    tensors = {
        f"{epoch}/{name}": tensor for epoch, state in training.states.items() for name, tensor in state.items()
    }
    header = {
        "format": FORMAT,
        "spec": spec.model_dump(mode="json"),
        "accuracy": training.accuracy,
        "held_out_accuracy": {str(epoch): each for epoch, each in training.held_out_accuracy.items()},
        "tensors_sha256": _hash(tensors),
    }
    # Cloned, since safetensors refuses views of one tensor.
    tensors = {name: each.clone(memory_format=torch.contiguous_format) for name, each in tensors.items()}
    metadata = {"dcbench": json.dumps(header, sort_keys=True), "sha256": NO_DIGEST}
    write_atomically(path, seal(save_tensors({**tensors, HELD_OUT: training.held_out}, metadata)))


def load_network(path: Path) -> StoredNetwork:
    """Read what a network's file says, and check it.

    Raises:
        DcbenchError: when it cannot be read, is damaged, or is not a network; `NewerFormat` when it is of a newer
            version.
    """
    try:
        if not is_intact(path.read_bytes()):
            raise DcbenchError(f"{path} is damaged: it does not have the hash that it states.")
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads(file.metadata()["dcbench"])
            held_out = file.get_tensor(HELD_OUT)
        if header["format"] != FORMAT:
            raise newer_format(f"{path}, a {header['format']},")
        return StoredNetwork(
            NetworkSpec.model_validate(header["spec"]),
            header["accuracy"],
            {int(epoch): each for epoch, each in header["held_out_accuracy"].items()},
            held_out,
            header["tensors_sha256"],
            path,
        )
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror}.") from None
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DcbenchError(f"{path} is not a trained network: {error}.") from None


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        digest.update(f"{name} {array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
