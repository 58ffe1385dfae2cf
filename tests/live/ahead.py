"""Programs that wait more than they work are run two at a time, each still with a test of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import pytest

T = TypeVar("T")

AT_ONCE = 2


class Ahead(Generic[T]):
    """What a function returns for each value of a parameter that the selected tests of a file have."""

    def __init__(self, request: pytest.FixtureRequest, parameter: str, work: Callable[[Any], T]) -> None:
        """Begin with the first ones."""
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._done: dict[Any, Future[T]] = {}
        for item in request.session.items:
            spec: Any = getattr(item, "callspec", None)
            if item.path == request.path and spec and parameter in spec.params:
                value = spec.params[parameter]
                self._done[value] = self._pool.submit(work, value)

    def of(self, value: object) -> T:
        """Wait for one. Raises what the function raised."""
        return self._done[value].result()

    def close(self) -> None:
        """Begin no more, and wait for what is at work."""
        self._pool.shutdown(cancel_futures=True)
