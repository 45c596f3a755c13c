"""Weights & Biases: a run for each condensed set, those of one results folder in a group.

The package reads its own variables: with WANDB_MODE=offline nothing is sent, and ``wandb sync`` sends it later.
"""

import os
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from dcbench.api import DcbenchError, Observer, hookimpl, option


class WeightsAndBiases(Observer):
    """Weights & Biases runs: losses, pictures and accuracies, a run for each condensed set."""

    name = "wandb"

    project: str = option("dcbench", "its project")
    entity: str | None = option(None, "its user or team; if not given, the one that is logged in")
    group: str | None = option(None, "the group of the runs; if not given, the name of the results folder")
    _results: Path = PrivateAttr()

    def start(self, results: Path) -> None:
        """Find the package."""
        try:
            import wandb  # noqa: F401
        except ImportError:
            raise DcbenchError("observer 'wandb' needs a package: pip install 'dcbench-suite[wandb]'.") from None
        self._results = results

    def open(self, name: str, facts: dict[str, Any]) -> Any:
        """Begin a run beside those that are open."""
        import wandb

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group or self._results.resolve().name,
            name=name,
            config=facts,
            dir=os.environ.get("WANDB_DIR", self._results),
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        run.define_metric("loss", step_metric="iteration")
        run.define_metric("*", step_metric="network")
        return run

    def log(self, run: Any, name: str, value: float, step: int) -> None:
        """Add a number over an axis of its own, because the package counts steps on and never back."""
        run.log({name: value, "iteration" if name == "loss" else "network": step})

    def show(self, run: Any, picture: Path) -> None:
        """Add the picture."""
        import wandb

        run.log({"set": wandb.Image(str(picture))})

    def close(self, run: Any, status: str) -> None:
        """Finish the run; one that was not done is marked as failed."""
        run.summary["status"] = status
        run.finish(exit_code=int(status != "done"))


@hookimpl
def dcbench_register_observers() -> list[type[Observer]]:
    """Provide the observer."""
    return [WeightsAndBiases]
