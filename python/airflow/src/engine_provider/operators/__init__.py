"""Operators: jobs, single tasks, and clusters of the engine."""

from engine_provider.operators.cluster import EngineScaleClusterOperator, EngineStartClusterOperator, EngineStopClusterOperator
from engine_provider.operators.job import EngineSubmitJobOperator
from engine_provider.operators.task import EngineTaskOperator

__all__ = [
    "EngineScaleClusterOperator",
    "EngineStartClusterOperator",
    "EngineStopClusterOperator",
    "EngineSubmitJobOperator",
    "EngineTaskOperator",
]
