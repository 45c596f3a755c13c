"""The file of a trained network: safetensors, with a JSON header that says what it is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open

from dcbench.core.trained_network import NetworkSpec, State, StoredNetwork
from dcbench.engine.trained_networks import Training
from dcbench.results.set_file import write_tensors
from dcbench.results.set_header import read_file, reading
from dcbench.utils.errors import DcbenchError

FORMAT = "dcbench-network/1"
HELD_OUT = "held_out"


def save_network(path: Path, spec: NetworkSpec, training: Training) -> None:
    """Write a trained network, in one piece or not at all. Its bytes depend on the network alone."""
    tensors = {f"{epoch}/{name}": each for epoch, state in training.states.items() for name, each in state.items()}
    header = {
        "format": FORMAT,
        "spec": spec.model_dump(mode="json"),
        "accuracy": training.accuracy,
        "held_out_accuracy": {str(epoch): each for epoch, each in training.held_out_accuracy.items()},
    }
    write_tensors(path, {**tensors, HELD_OUT: training.held_out}, header)


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
    with reading(path, "a trained network"):
        header, arrays, metadata = read_file(path, (FORMAT,))
        return StoredNetwork(
            spec=NetworkSpec.model_validate(header["spec"]),
            accuracy=header["accuracy"],
            held_out_accuracy={int(epoch): each for epoch, each in header["held_out_accuracy"].items()},
            held_out=torch.from_numpy(arrays[HELD_OUT]),
            sha256=json.loads(metadata["dcbench"])["content_sha256"],
            path=path,
            read=partial(_state, path),
        )


def _state(path: Path, epoch: int) -> State:
    """Return the state after an epoch, from a network's file."""
    prefix = f"{epoch}/"
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
