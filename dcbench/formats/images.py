"""Opening image files that others made: only known formats, and nothing is run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from dcbench.utils.errors import DcbenchError, first_line

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What PIL may take a file for, whatever its ending, because Postscript, for one, would start an interpreter."""


@contextmanager
def open_image(file: Path | bytes) -> Iterator[Image.Image]:
    """Open an image of at most 8 bits per channel, a file or its bytes.

    For any error, also in the block, a `DcbenchError` names the file.
    """

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)

    try:
        with opened() as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has more than 8 bits per pixel (mode {image.mode}); convert it to 8 bits")
            if image.format == "PNG":  # PIL checks the checksum of the pixels only when asked
                with opened() as whole:
                    whole.verify()
            yield image
    except Exception as error:  # there is hardly one that PIL does not raise for some damaged file
        name = f"one of {len(file)} bytes" if isinstance(file, bytes) else file
        raise DcbenchError(f"{name} cannot be read as an image: {first_line(error)}.") from None
