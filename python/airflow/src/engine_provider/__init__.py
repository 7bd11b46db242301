"""The engine's jobs, tasks, and clusters as tasks of Airflow.

Operators are in `engine_provider.operators`, the sensor in `engine_provider.sensors`, the hook of connection type `engine` in
`engine_provider.hooks`, and `@task.engine` is registered with Airflow by itself.
"""

__version__ = "0.1.0"
