"""The link from a task to its job's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

_ANY_HOST = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - these are recognized, not listened on


class EngineJobLink(BaseOperatorLink):
    """Leads to the page of a task's job, with its state, counts, error, and log. It is there as soon as the job is submitted."""

    name = "Engine job"

    @property
    def xcom_key(self) -> str:
        """The key of the XCom that holds the link."""
        return "_link_EngineJobLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link, or an empty text if the task has submitted nothing, or its head has no web port."""
        from airflow.sdk.execution_time.xcom import XCom

        link: Any = XCom.get_value(ti_key=ti_key, key=self.xcom_key)
        return link if isinstance(link, str) else ""


def job_url(web: str, address: str, job_id: str) -> str:
    """Return the URL of a job's page.

    Args:
        web: the base URL of the head's web port; empty means that it has none.
        address: "host:port" by which the head was reached: a browser may reach its web port at that host, too.
        job_id: the job's id.

    """
    if not web:
        return ""
    parts = urlsplit(web)
    if parts.hostname is None or parts.hostname in _ANY_HOST:
        host = address.split(",")[0].rpartition(":")[0]
        parts = parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host)
    return f"{urlunsplit(parts).rstrip('/')}/jobs/{quote(job_id)}"
