"""MLflow: a run for each condensed set, in one experiment, on the server or in the store that MLflow is set to."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from dcbench.api import DcbenchError, Observer, hookimpl, option

STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow(Observer):
    """MLflow runs: losses, pictures and accuracies, a run for each condensed set."""

    name = "mlflow"

    uri: str | None = option(None, "the server or store; if not given, MLFLOW_TRACKING_URI, else MLflow's own")
    experiment: str = option("dcbench", "the experiment of the runs")
    _client: Any = PrivateAttr()
    _experiment_id: str = PrivateAttr()
    _sent: defaultdict[str, list[Any]] = PrivateAttr(default_factory=lambda: defaultdict(list))

    def start(self, results: Path) -> None:
        """Find the package, the store and the experiment in it."""
        try:
            import mlflow
        except ImportError:
            raise DcbenchError("observer 'mlflow' needs a package: pip install 'dcbench-suite[mlflow]'.") from None
        try:
            self._client = mlflow.MlflowClient(self.uri)
            found = self._client.get_experiment_by_name(self.experiment)
            self._experiment_id = found.experiment_id if found else self._client.create_experiment(self.experiment)
        except mlflow.MlflowException as error:
            raise DcbenchError(f"observer 'mlflow': {error}") from None

    def open(self, name: str, facts: dict[str, Any]) -> Any:
        """Begin a run; return its id."""
        run = self._client.create_run(self._experiment_id, run_name=name)
        for key, value in facts.items():
            self._client.log_param(run.info.run_id, key, value)
        return run.info.run_id

    def log(self, run: Any, name: str, value: float, step: int) -> None:
        """Send a metric, without waiting; some characters of networks' options may not be in its name."""
        name = re.sub(r"[^\w/.: -]", "_", name)
        self._sent[run].append(self._client.log_metric(run, name, value, step=step, synchronous=False))

    def show(self, run: Any, picture: Path) -> None:
        """Add the picture."""
        self._client.log_artifact(run, str(picture))

    def close(self, run: Any, status: str) -> None:
        """End the run, when all has arrived that was sent."""
        for sent in self._sent.pop(run, ()):
            sent.wait()
        self._client.set_terminated(run, STATUS[status])


@hookimpl
def dcbench_register_observers() -> list[type[Observer]]:
    """Provide the observer."""
    return [MLflow]
