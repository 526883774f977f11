"""An event loop whose time passes as soon as everything waits: hours of pauses in milliseconds, to the exact second."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for the next timer, its clock is set to it."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("every task waits for something that nobody does")
        if not ready and timeout is not None:
            self._loop.now += timeout
        return ready


def virtual_time(
    test: Callable[_Parameters, Coroutine[Any, Any, _Result]],
) -> Callable[_Parameters, _Result]:
    """Run an asynchronous test on a loop with virtual time."""

    @functools.wraps(test)
    def run(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(test(*arguments, **named))

    return run


def now() -> float:
    """The running loop's time in seconds."""
    return asyncio.get_running_loop().time()
