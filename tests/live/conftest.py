"""Live tests: they need root, a kernel that can be asked, and the distribution's bcc; and they leave nothing behind.

Where something is missing, each test is skipped and says what; with ``TCPTOP_REQUIRE_LIVE=1`` it fails instead.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.watch import Watch
from tests.support import leftovers, variants
from tests.support.lab import Lab
from tests.support.netns import LabError

BCC_PYTHON = "/usr/bin/python3"  # the distribution's: PyPI's bcc is something else
TOOLS = ("ip", "nft", "nsenter", "ss", "tc")
LACKING = {
    "HAVE_ADOPTION": "the kernel has no TCP_BPF_SOCK_OPS_CB_FLAGS: flags of open sockets can't be set or taken back",
    "HAVE_PID": "the kernel refuses bpf_get_current_pid_tgid to sock_ops: who was there only for a moment is not known",
    "HAVE_COMM": "the kernel refuses bpf_get_current_comm to sock_ops: the name of who is gone is not known",
}
LEFT = pytest.StashKey[list[str]]()


@functools.cache
def missing() -> str | None:
    """What keeps live tests from running here, or None."""
    if os.geteuid() != 0:
        return "not root"
    if leftovers.cgroup2_mount() is None:
        return "no cgroup v2 file system is mounted"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(absent)}"
    return _bcc_missing() or _lab_refused()


@functools.cache
def accepted() -> frozenset[str]:
    """The features that this kernel accepted of the product, asked once (``Attached.features``)."""
    with Lab() as lab, Watch(lab.cgroup("features")) as watch:
        return watch.source.attached.features


def lacking(item: pytest.Item) -> str | None:
    """What of the features that a test is marked as needing this kernel refused, or None."""
    needed = {feature: LACKING[feature] for mark in item.iter_markers("needs") for feature in mark.args}
    return "; ".join(why for feature, why in needed.items() if feature not in accepted()) or None


def _bcc_missing() -> str | None:
    try:
        subprocess.run([BCC_PYTHON, "-I", "-c", "import bcc"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return f"{BCC_PYTHON} has no bcc (python3-bpfcc, python3-bcc)"
    return None


def _lab_refused() -> str | None:
    """Root in a container may be allowed none of this: try."""
    try:
        with Lab() as lab:
            lab.link("a", "b", loss_percent=1)
    except (LabError, OSError) as error:
        return f"no lab here: {error}"
    return None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: needs root and a kernel")
    config.addinivalue_line("markers", f"{variants.MARK}: TCPTOP_VARIANTS=half and =few leave variants out")
    config.addinivalue_line("markers", "needs(feature, ...): what the kernel has to accept, HAVE_*")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Called for the tests below this directory alone: each is live."""
    item.add_marker(pytest.mark.live)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out variants where that is asked for (``tests/support/variants.py``).

    ``TCPTOP_VARIANTS``: ``all`` (as without it), ``half`` or ``few``. What was left out is told as deselected.
    """
    level = os.environ.get("TCPTOP_VARIANTS") or "all"
    if level not in variants.LEVELS:
        raise pytest.UsageError(f"TCPTOP_VARIANTS={level}: one of {', '.join(variants.LEVELS)}")
    kept = variants.LEVELS[level](items)
    there = {id(item) for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in there])
    items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: skip, or fail, what can't run here."""
    reason = missing() or lacking(item)
    if reason and os.environ.get("TCPTOP_REQUIRE_LIVE") == "1":
        pytest.fail(f"live tests are required, but: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"live: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Whatever this run's labs made must be gone. Last, since an interrupted run's fixtures end in this hook, too."""
    left = leftovers.existing(f"{leftovers.MARK}{os.getpid()}-")
    session.config.stash[LEFT] = left
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for path in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND by a lab: {path}", red=True)


@pytest.fixture(scope="session", autouse=True)
def swept() -> None:
    """What a killed run could not take away."""
    leftovers.sweep_leftovers()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def cgroup(lab: Lab) -> Path:
    return lab.cgroup("watched")


@pytest.fixture
def watch(cgroup: Path) -> Iterator[Watch]:
    with Watch(cgroup) as made:
        yield made


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A directory in which the program may write when it has given up root."""
    with tempfile.TemporaryDirectory(prefix="tct-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.fixture(scope="module")
def busy() -> Iterator[Path]:
    """A cgroup with a connection that loses, and goes on sending as long as the tests of a file last."""
    with Lab() as lab:
        cgroup = lab.cgroup("watched")
        link = lab.link("a", "b", loss_percent=5, offload=False)
        server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
        client = lab.client(link.a.ns, "send", 10**12, address=link.b.ipv4, port=server.port, cgroup=cgroup)
        client.expect("connected")
        yield cgroup
