"""Operators that start, scale, and stop clusters, through a driver (see `engine_provider.clusters`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from engine_provider import faults
from engine_provider.clusters import STARTUP_TIMEOUT, make_driver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk.definitions.context import Context


class _ClusterOperator(BaseOperator):
    """What the operators of clusters have in common."""

    template_fields: Sequence[str] = ("cluster", "driver", "driver_options", "cluster_timeout")
    template_fields_renderers: ClassVar[dict[str, str]] = {"driver_options": "json"}
    ui_color = "#e6e2f0"

    def __init__(
        self,
        *,
        cluster: str | Mapping[str, Any],
        driver: str = "process",
        driver_options: Mapping[str, Any] | None = None,
        cluster_timeout: float = STARTUP_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster
        self.driver = driver
        self.driver_options = driver_options
        self.cluster_timeout = cluster_timeout

    def _name(self) -> str:
        """Return the cluster's name, of itself or of what `EngineStartClusterOperator` has returned.

        Raises:
            AirflowFailException: if it renders to nothing.

        """
        if self.cluster in (None, "", "None"):
            raise AirflowFailException(
                "cluster renders to nothing: the XCom that it is taken of is missing, as when the task that starts it did not succeed"
            )
        return str(self.cluster.get("name", "")) if isinstance(self.cluster, dict) else str(self.cluster)


class EngineStartClusterOperator(_ClusterOperator):
    """Starts a cluster, or finds the one of the name, and returns once it is ready.

    Args:
        cluster: its name.
        workers: how many workers it has beside the head's own.
        driver: "process" (default) runs it on this host; or the dotted path of a `engine_provider.clusters.ClusterDriver`.
        driver_options: the driver's arguments, such as {"head_options": {"num-cpus": 4}}.
        cluster_timeout: seconds in which it must be ready; else the task fails with what the cluster said.

    Returns: name, address, web, workers, driver, details; what other tasks, and by XCom other DAGs, take as `address` or `cluster`.

    """

    template_fields: Sequence[str] = (*_ClusterOperator.template_fields, "workers")

    def __init__(self, *, workers: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workers = workers
        self._starting = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the cluster."""
        with faults.translated():
            driver = make_driver(self.driver, self.driver_options)
            name = self._name()
            self._starting = True
            try:
                cluster = driver.start(name, int(self.workers), float(self.cluster_timeout))
            finally:
                self._starting = False
        self.log.info(f"cluster {cluster.name} is ready at {cluster.address}, with {cluster.workers} workers beside the head's own")
        return cluster.to_dict()

    def on_kill(self) -> None:
        """Break the start off: Airflow calls this in a signal's handler, so the driver is unwound, and ends what it has begun itself."""
        if self._starting:
            self._starting = False  # A second signal must not break off the unwinding.
            raise AirflowException(f"the task was killed while cluster {self._name()} started")


class EngineScaleClusterOperator(_ClusterOperator):
    """Gives a cluster more workers or fewer. Work of a worker that goes is done by others.

    Args:
        cluster: its name, or what `EngineStartClusterOperator` has returned.
        workers: how many workers it then has beside the head's own.
        driver: as in `EngineStartClusterOperator`.
        driver_options: see there.
        cluster_timeout: see there.

    Returns: as `EngineStartClusterOperator` does.

    """

    template_fields: Sequence[str] = (*_ClusterOperator.template_fields, "workers")

    def __init__(self, *, workers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workers = workers

    def execute(self, context: Context) -> dict[str, Any]:
        """Scale the cluster."""
        with faults.translated():
            cluster = make_driver(self.driver, self.driver_options).scale(self._name(), int(self.workers), float(self.cluster_timeout))
        self.log.info(f"cluster {cluster.name} has {cluster.workers} workers beside the head's own")
        return cluster.to_dict()


class EngineStopClusterOperator(_ClusterOperator):
    """Stops a cluster with all its workers. One that is not there is stopped. A natural teardown: `.as_teardown(setups=start)`.

    Args:
        cluster: its name, or what `EngineStartClusterOperator` has returned.
        driver: as in `EngineStartClusterOperator`.
        driver_options: see there.
        cluster_timeout: seconds in which it must end; after that it is killed.

    """

    def execute(self, context: Context) -> None:
        """Stop the cluster."""
        with faults.translated():
            make_driver(self.driver, self.driver_options).stop(self._name(), float(self.cluster_timeout))
        self.log.info(f"cluster {self._name()} is stopped")
