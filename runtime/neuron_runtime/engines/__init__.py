"""Engines by name. A library is imported when its engine is opened, or later: never because of another engine."""

from neuron_runtime.contract import request

from .base import Engine

__all__ = ["Engine", "open_engine"]


def open_engine(kind: request.Engine) -> Engine:
    """The engine of that name."""
    if kind is request.Engine.CPU:
        from .cpu import CPUEngine

        return CPUEngine()
    raise AssertionError(f"no engine {kind}")
