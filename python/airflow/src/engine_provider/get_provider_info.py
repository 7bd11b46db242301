"""What Airflow's providers manager asks this distribution for."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the form of Airflow's provider.yaml: fields of connections, links, decorators."""
    return {
        "package-name": "airflow-provider-f708428e-engine",
        "name": "Engine",
        "description": "Batch inference and embedding jobs, single tasks, and clusters of the engine.",
        "versions": ["0.1.0"],
        "connection-types": [
            {
                "connection-type": "engine",
                "hook-name": "Engine",
                "hook-class-name": "engine_provider.hooks.EngineHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login"],
                    "relabeling": {"host": "Head", "port": "gRPC port", "password": "Token"},
                    "placeholders": {
                        "host": "head.example.com, or several: head1:10001,head2:10001",
                        "port": "10001",
                    },
                },
                "conn-fields": {
                    "web": {
                        "label": "Web address",
                        "description": "Where a browser reaches the head's web port, for links. Default: as the head says.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "namespace": {
                        "label": "Namespace",
                        "description": "Begins submission ids. Default: airflow. Airflows that share a cluster need one each.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "tls": {
                        "label": "TLS",
                        "description": "Encrypt, trusting the system's authorities unless a CA is given.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "ca": {
                        "label": "CA certificates",
                        "description": "PEM, or the path of a file on the machines of Airflow.",
                        "schema": {"type": ["string", "null"], "format": "multiline"},
                    },
                    "cert": {
                        "label": "Client certificate",
                        "description": "PEM, or a path.",
                        "schema": {"type": ["string", "null"], "format": "multiline"},
                    },
                    "key": {
                        "label": "Client key",
                        "description": "PEM, or a path.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "server_name": {
                        "label": "TLS server name",
                        "description": "The name in the head's certificate, if it is not the host's.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
        "task-decorators": [{"name": "engine", "class-name": "engine_provider.decorators.engine_task"}],
        "extra-links": ["engine_provider.links.EngineJobLink"],
        "hooks": [{"integration-name": "Engine", "python-modules": ["engine_provider.hooks"]}],
        "operators": [{"integration-name": "Engine", "python-modules": ["engine_provider.operators"]}],
        "sensors": [{"integration-name": "Engine", "python-modules": ["engine_provider.sensors"]}],
        "triggers": [{"integration-name": "Engine", "python-modules": ["engine_provider.triggers"]}],
        "config": {
            "engine": {
                "description": "Tables between tasks: the options of engine_provider.xcom.EngineXComBackend.",
                "options": {
                    "xcom_checkpoint": {
                        "description": "Where tables are kept durably: s3://bucket/prefix, or the absolute path of a folder that the "
                        "engine's workers and Airflow's share. Required by the backend once a task returns a table.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://bucket/airflow-xcom",
                        "default": "",
                    },
                    "xcom_conn_id": {
                        "description": "The connection of the cluster whose object store hands tables over.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": None,
                        "default": "engine_default",
                    },
                    "xcom_ttl": {
                        "description": "Seconds for which a table stays in the object store. Afterwards it is read from its checkpoint.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "86400",
                    },
                },
            },
        },
        "integrations": [
            {"integration-name": "Engine", "external-doc-url": "https://github.com/f708428e/engine", "tags": ["machine-learning"]}
        ],
    }
