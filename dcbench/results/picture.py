"""The picture of a condensed set: a row per class, de-normalised and enlarged."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import DatasetInfo
from dcbench.results.stored_pixels import to_pixels
from dcbench.utils.files import write_atomically

TILE = 64
"""Images are enlarged by a whole factor, to about this many pixels."""
GAP = 4
MOST_COLUMNS = 50


def save_picture(path: Path, condensed: CondensedSet, info: DatasetInfo, ipc: int | None) -> None:
    """Write the picture of a condensed set as PNG."""
    buffer = io.BytesIO()
    draw_picture(condensed, info, ipc).save(buffer, format="PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def draw_picture(condensed: CondensedSet, info: DatasetInfo, columns: int | None) -> Image.Image:
    """Return the picture: each class's name, then its first ``columns`` images, `MOST_COLUMNS` at most.

    Ten of each are shown for None, where the images per class are not fixed, as for the whole training split.
    Whitened images are no pixels: they are shown as they are, from black to white.
    """
    columns = min(columns or 10, MOST_COLUMNS)
    mean, std = ((0.0,), (1.0,)) if condensed.zca else (info.mean, info.std)
    labels = condensed.labels if condensed.labels.ndim == 1 else condensed.labels.argmax(dim=1)
    factor = max(1, round(TILE / max(info.size)))
    tile_height, tile_width = info.size[0] * factor, info.size[1] * factor
    font = ImageFont.load_default(size=min(20, max(10, tile_height // 2)))
    margin = GAP * 2 + max(int(font.getlength(name)) for name in info.class_names)
    width = margin + columns * (tile_width + GAP)
    picture = Image.new("RGB", (width, GAP + info.num_classes * (tile_height + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(info.class_names):
        top = GAP + row * (tile_height + GAP)
        draw.text((GAP, top + tile_height // 2), name, fill="black", font=font, anchor="lm")
        shown = torch.nonzero(labels == row).flatten()[:columns]
        for column, pixels in enumerate(to_pixels(condensed.images[shown].numpy(), mean, std)):
            levels = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
            tile = Image.fromarray(levels).resize((tile_width, tile_height), Image.Resampling.NEAREST)
            picture.paste(tile, (margin + column * (tile_width + GAP), top))
    return picture
