"""Deleting the tables that tasks have handed over; see `engine_provider.xcom`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from engine_provider import faults, xcom_storage
from engine_provider.xcom import Settings, delete_tables

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

__all__ = ["EngineXComCleanupOperator"]


class EngineXComCleanupOperator(BaseOperator):
    """Deletes tables that the XCom backend has kept: objects and checkpoints. The rows in Airflow's database stay.

    As the last task of a DAG, perhaps `.as_teardown()`, it deletes what the run has handed over, also by tasks that failed or were tried
    again: afterwards no task of the run can be cleared alone that reads a table. In a DAG of its own it deletes what is old, of all runs
    of all DAGs, as `airflow db clean` does with rows.

    Args:
        older_than: the age from which on tables of all runs are deleted. Default: those of this task's run, however old.

    It returns how many were deleted. It fails if the checkpoints cannot be listed; of those that cannot be deleted the log says which,
    and the next time they are tried again.

    """

    def __init__(self, *, older_than: timedelta | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if older_than is not None and older_than <= timedelta(0):
            raise ValueError(f"older_than is {older_than}, expected a positive time")
        self.older_than = older_than

    def execute(self, context: Context) -> int:
        """Delete them."""
        with faults.translated():
            settings = Settings.read()
            if self.older_than is None:
                folder, before = settings.folder(context["dag"].dag_id, context["run_id"]), None
            else:
                folder, before = settings.folder(), datetime.now(timezone.utc) - self.older_than
            found = xcom_storage.list_folder(folder)
            old = [one.uri for one in found if before is None or (one.modified is not None and one.modified < before)]
            gone = delete_tables(old) if old else 0
            xcom_storage.remove_empty_folders(settings.folder(), old)
        self.log.info(f"{gone} of {len(old)} tables below {folder} are deleted")
        return gone
