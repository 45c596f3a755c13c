"""TensorBoard: an event file for each condensed set. ``tensorboard --logdir results/tensorboard`` shows them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import PrivateAttr

from dcbench.api import DcbenchError, Observer, hookimpl, option


class TensorBoard(Observer):
    """TensorBoard event files: losses, pictures and accuracies, in a folder for each condensed set."""

    name = "tensorboard"

    folder: str | None = option(None, "where they are written; if not given, tensorboard/ in the results folder")
    _folder: Path = PrivateAttr()

    def start(self, results: Path) -> None:
        """Find the package."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise DcbenchError(
                "observer 'tensorboard' needs a package: pip install 'dcbench-suite[tensorboard]'."
            ) from None
        self._folder = Path(self.folder) if self.folder else results / "tensorboard"

    def open(self, name: str, facts: dict[str, Any]) -> Any:
        """Begin an event file, with the facts as a table."""
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(self._folder / name)
        lines = ["| option | value |", "|:--|:--|", *(f"| {key} | {value} |" for key, value in facts.items())]
        writer.add_text("spec", "\n".join(lines))
        return writer

    def log(self, run: Any, name: str, value: float, step: int) -> None:
        """Add a scalar."""
        run.add_scalar(name, value, step)

    def show(self, run: Any, picture: Path) -> None:
        """Add the picture, (H, W, 3)."""
        with Image.open(picture) as image:
            run.add_image("set", np.asarray(image.convert("RGB")), dataformats="HWC")

    def close(self, run: Any, status: str) -> None:
        """Write what is left."""
        run.add_text("status", status)
        run.close()


@hookimpl
def dcbench_register_observers() -> list[type[Observer]]:
    """Provide the observer."""
    return [TensorBoard]
