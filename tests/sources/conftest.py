"""Sockets of the test's own, and what sock_diag says about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tcptop_ops.sources.sock_diag import SockDiag
from tests.support.sock_diag import Opened, capture


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """Return sockets of this process, open as long as the tests of a module last."""
    with ExitStack() as stack:
        yield Opened(stack)


@pytest.fixture(scope="module")
def captured(opened: Opened) -> list[bytes]:
    """Return the datagrams of a real dump in which these sockets are."""
    assert opened.sockets
    return capture()


@pytest.fixture
def real() -> Iterator[SockDiag]:
    """Return a sock_diag of the real kernel, as of network namespace 77."""
    made = SockDiag(netns=77)
    yield made
    made.close()
