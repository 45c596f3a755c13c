"""What to say where memory has run out: what would fit."""

from __future__ import annotations

from dcbench.core.architecture import Architecture
from dcbench.core.spec import EvaluationSpec
from dcbench.engine.engine import MICRO_BATCH, Engine
from dcbench.engine.memory import activation_bytes, free_memory
from dcbench.evaluate.protocols import EvaluationProtocol
from dcbench.run.cells import Cell


def what_would_fit(cell: Cell, trial: EvaluationSpec | None, engine: Engine, protocol: EvaluationProtocol) -> str:
    """Return sentences for the user: how many images fit at once, and which options say how many there are.

    Args:
        cell: that failed.
        trial: the evaluation that failed, or None where the condensation did.
        engine: how it was computed.
        protocol: of evaluations.
    """
    said, device = [], cell.data.device
    network = _network_of(cell, trial)
    needed = activation_bytes(network, cell.data.info) if network else None
    free = free_memory(device)
    if network and needed:
        shape = "x".join(map(str, (cell.data.info.channels, *cell.data.info.size)))
        said.append(f"{network} keeps {_spell(needed)} of activations for each image of {shape}.")
        if free is not None:
            fits = max(0, free // needed)
            said.append(f"{_spell(free)} are free on {device}: at most {fits:,} images fit at once.")
    elif free is not None:
        said.append(f"{_spell(free)} are free on {device}.")
    if trial is None:
        said += _batch_options(cell)
    else:
        said.append(f"Protocol {protocol.name} trains on {protocol.batch_size} images at once.")
    if engine.micro_batch:
        said.append(f"Engine {engine.name} passes real and test images {engine.micro_batch} at a time.")
    elif device.type == "cpu":
        said.append(f"--engine fast passes real and test images {MICRO_BATCH} at a time.")
    return " ".join(said)


def _network_of(cell: Cell, trial: EvaluationSpec | None) -> Architecture | None:
    """Return the network that was trained or matched on, where there is one."""
    if trial is not None:
        return next((each for each, _ in cell.trials if str(each) == trial.evaluation_network), None)
    network = getattr(cell.source, "architecture", None)  # a set made elsewhere has none
    return network if cell.spec.matching_network else None


def _batch_options(cell: Cell) -> list[str]:
    """Return the method's options that say how many images it takes at once."""
    sizes = {
        name: value
        for name, value in cell.spec.options.items()
        if name.startswith("batch") and isinstance(value, int) and not isinstance(value, bool)
    }
    if not sizes:
        return []
    listed = ", ".join(f"{name}={value}" for name, value in sizes.items())
    name, value = max(sizes.items(), key=lambda item: item[1])
    return [f"Options of {cell.spec.method} that say how many: {listed} (-o {name}={max(1, value // 2)}, say)."]


def _spell(size: int) -> str:
    """Return a size in decimal units, e.g. ``1.2 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
