"""What to say when memory has run out: what would fit."""

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
    sentences, info, device = [], cell.data.info, cell.data.device
    network, free = _network_of(cell, trial), free_memory(device)
    here = f"{_spell(free)} are free on {device}"
    needed = activation_bytes(network, info) if network else None
    if needed:
        shape = "x".join(map(str, (info.channels, *info.size)))
        sentences.append(f"{network} keeps {_spell(needed)} of activations for each image of {shape}.")
        here += f": at most {free // needed:,} images fit at once"
    sentences.append(f"{here}.")
    if trial is None:
        sentences += _batch_options(cell)
    else:
        sentences.append(f"Protocol {protocol.name} trains on {protocol.batch_size} images at once.")
    if engine.micro_batch:
        sentences.append(f"Engine {engine.name} passes real and test images {engine.micro_batch} at a time.")
    elif device.type == "cpu":
        sentences.append(f"--engine fast passes real and test images {MICRO_BATCH} at a time.")
    return " ".join(sentences)


def _network_of(cell: Cell, trial: EvaluationSpec | None) -> Architecture | None:
    """Return the network that was trained or matched on, where there is one."""
    if trial is not None:
        return next((each for each, _ in cell.trials if str(each) == trial.evaluation_network), None)
    network = getattr(cell.source, "architecture", None)  # a set made elsewhere has none
    return network if cell.spec.matching_network else None


def _batch_options(cell: Cell) -> list[str]:
    """Return the method's options that say how many images it takes at once."""
    options = cell.spec.options.items()
    sizes = {name: value for name, value in options if name.startswith("batch") and type(value) is int}
    if not sizes:
        return []
    listed = ", ".join(f"{name}={value}" for name, value in sizes.items())
    largest = max(sizes, key=sizes.__getitem__)
    half = max(1, sizes[largest] // 2)
    return [f"Options of {cell.spec.method} that say how many: {listed} (-o {largest}={half}, say)."]


def _spell(size: int) -> str:
    """Return a size in decimal units, e.g. ``1.2 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
