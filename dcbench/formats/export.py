"""A condensed set as a file or folder for other people's code: tensors, arrays, or images in folders."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from dcbench.core.condensed_set import CondensedSet
from dcbench.formats.pixels import scaled
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import storing, write_atomically

Form = Literal["pt", "npz", "folder"]


def export_set(path: Path, form: Form, condensed: CondensedSet, header: Mapping[str, Any]) -> tuple[str, bool]:
    """Write a condensed set in one piece or not at all.

    ``pt`` and ``npz`` have ``images``, float32, (N, C, H, W), as networks are trained on them; ``labels``, int64,
    (N,), or float32, (N, K); ``mean`` and ``std`` of each channel, by which the images were normalised;
    ``classes``, their names; and what the set brings. ``folder`` has a PNG for each image in folders 00000,
    00001, … by label.

    Args:
        path: the file or folder; it must not be there.
        form: which of the three.
        condensed, header: the set, and the header of its file.

    Returns:
        The options of `dcbench evaluate` that read it as it was, and whether every value is as it was.

    Raises:
        DcbenchError: when there is something at ``path``, or the set cannot be had as images.
        StorageError: when it cannot be written.
    """
    if path.exists():
        raise DcbenchError(f"{path} is there already: name another place with --out.")
    words = [f"--{name} {value}" for name, value in condensed.brings.items() if name != "lr" or form == "folder"]
    if form == "folder":
        return " ".join(words), _write_folder(path, condensed, header)
    facts: dict[str, Any] = {name: header["normalisation"][name] for name in ("mean", "std")}
    facts |= {"classes": header["classes"], **condensed.brings}
    buffer = io.BytesIO()
    if form == "pt":
        torch.save({"images": condensed.images, "labels": condensed.labels, **facts}, buffer)
    else:
        np.savez(buffer, images=condensed.images.numpy(), labels=condensed.labels.numpy(), **facts)
    write_atomically(path, buffer.getvalue())
    return " ".join(["--zca" if condensed.zca else "--normalised", *words]), True


def _write_folder(path: Path, condensed: CondensedSet, header: Mapping[str, Any]) -> bool:
    """Write the images as PNG; return whether they are read as they were."""
    images, (mean, std) = condensed.images, (header["normalisation"][name] for name in ("mean", "std"))
    problems = {
        "soft labels": condensed.labels.ndim == 2,
        "whitened images": condensed.zca,
        f"images of {images.shape[1]} channels": images.shape[1] not in (1, 3),
    }
    for problem, found in problems.items():
        if found:
            raise DcbenchError(f"the set has {problem}, which folders of PNG cannot keep: use --to pt or npz.")
    centre, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    levels = ((images * scale + centre) * 255).round().clamp(0, 255).to(torch.uint8)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:60]}."))
        try:
            for number, (label, pixels) in enumerate(zip(condensed.labels.tolist(), levels, strict=True)):
                file = aside / f"{label:05}" / f"{number:05}.png"
                file.parent.mkdir(exist_ok=True)
                array = pixels.permute(1, 2, 0).numpy()
                Image.fromarray(array[..., 0] if len(pixels) == 1 else array).save(file)
            aside.chmod(0o755)
            os.rename(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return torch.equal(scaled(levels.float() / 255, mean, std), images)
