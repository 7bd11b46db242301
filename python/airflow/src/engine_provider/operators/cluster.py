"""Operators that start, scale, and stop clusters, through a driver (see `engine_provider.clusters`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

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
        """Return the cluster's name, of itself or of what `EngineStartClusterOperator` has returned."""
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
            self._starting = True
            cluster = driver.start(self._name(), int(self.workers), float(self.cluster_timeout))
            self._starting = False
        self.log.info(f"cluster {cluster.name} is ready at {cluster.address}, with {cluster.workers} workers beside the head's own")
        return cluster.to_dict()

    def on_kill(self) -> None:
        """Stop a cluster that is not ready yet."""
        if self._starting:
            make_driver(self.driver, self.driver_options).stop(self._name(), 10.0)


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
