"""What to say when memory has run out, or will: what would fit."""

from __future__ import annotations

import torch
from rich.filesize import decimal

from dcbench.core.architecture import Architecture
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.method import Method
from dcbench.core.spec import CondenseSpec
from dcbench.engine.engine import MICRO_BATCH
from dcbench.engine.memory import activation_bytes, free_memory, parameter_bytes
from dcbench.run.events import Conditions


def what_would_fit(
    spec: CondenseSpec, data: LoadedDataset, network: Architecture | None, conditions: Conditions, evaluating: bool
) -> str:
    """Return sentences for the user: how many images fit at once, and which options say how many there are.

    The network is the one that was trained or matched on, if any.
    """
    sentences, info, device = [], data.info, data.device
    engine, protocol, free = conditions.engine, conditions.protocol, free_memory(device)
    here = f"{decimal(free)} are free on {device}"
    needed = activation_bytes(network, info) if network else None
    if needed:
        shape = "x".join(map(str, (info.channels, *info.size)))
        sentences.append(f"{network} keeps {decimal(needed)} of activations for each image of {shape}.")
        here += f": at most {free // needed:,} images fit at once"
    sentences.append(f"{here}.")
    if evaluating:
        images = spec.ipc * info.num_classes if spec.ipc else len(data.host_train.labels)
        size = protocol.batch_size_for(info, images)
        sentences.append(f"Protocol {protocol.name} trains on {size} images at once.")
    elif sizes := {k: v for k, v in spec.options.items() if k.startswith("batch") and type(v) is int}:
        listed = ", ".join(f"{name}={value}" for name, value in sizes.items())
        largest = max(sizes, key=sizes.__getitem__)
        fewer = f"{largest}={max(1, sizes[largest] // 2)}, say"
        sentences.append(f"Options of {spec.method} that say how many: {listed} ({fewer}).")
    if engine.micro_batch:
        sentences.append(f"Engine {engine.name} passes real and test images {engine.micro_batch} at a time.")
    elif device.type == "cpu":
        sentences.append(f"The engine fast passes real and test images {MICRO_BATCH} at a time.")
    return " ".join(sentences)


def shortage(method: Method, architecture: Architecture, info: DatasetInfo, device: torch.device) -> str:
    """Say that a method needs more memory than is free, and what would fit; empty if it fits or is not known.

    What it needs is counted from below: one copy of the activations of the images, and the parameters.
    """
    if (held := method.holds()) is None or (each := activation_bytes(architecture, info)) is None:
        return ""
    (images, copies), parameters = held, parameter_bytes(architecture, info)
    needed, free = images * each + copies * parameters, free_memory(device)
    if needed <= free:
        return ""
    fitting = max(0, (free - copies * parameters) // each)
    return (
        f"{method.name} on {info.name} needs at least {decimal(needed)} of memory, and {decimal(free)} are free "
        f"on {device}: {decimal(each)} for each of {images} images at once, of which {fitting} would fit, and "
        f"{decimal(copies * parameters)} for {copies} copies of the parameters of {architecture}."
    )
