"""The privileged processes: the loader, and the helper that it becomes.

Imports the standard library alone: the loader is started before anything slower is imported.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tcptop_ops.errors import LIMITS_HINT, Unsupported

HERE = Path(__file__).parent
INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Where a distribution's bcc is found. Fixed paths: what runs as root must not depend on PATH."""

HELPER = "helper.py"

PATIENCE_S = 60
"""The longest that a privileged process is waited for, seconds; one that does nothing is not: see GRACE_S."""

GRACE_S = 0.5
"""For how long one may do nothing before it is not waited for any more, seconds."""

UNSEEN_S = 3.0
"""The longest that one is waited for where /proc does not show it (hidepid, proc(5))."""

_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39


def effective_capabilities() -> int:
    """Return the mask of CapEff, proc(5)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)


def is_privileged() -> bool:
    """Whether this process may load and attach."""
    have = effective_capabilities()

    def has(capability: int) -> bool:
        return bool(have >> capability & 1)

    return has(_CAP_SYS_ADMIN) or (has(_CAP_BPF) and has(_CAP_NET_ADMIN) and has(_CAP_PERFMON))


def require_privilege() -> None:
    """Raise Unsupported without the capabilities to load and attach."""
    if not is_privileged():
        raise Unsupported(
            "attaching a sock_ops program needs root", "run it with sudo, or without BPF: --source sockdiag"
        )


def interpreters() -> list[str]:
    """Those of INTERPRETERS that are there."""
    return [path for path in INTERPRETERS if os.access(path, os.X_OK)]


class Activity:
    """Whether a process goes on: from one look to the next it has run, or it waits for a processor."""

    def __init__(self, pid: int) -> None:
        """Take the first look."""
        self._pid = pid
        self._since = time.monotonic()
        self._ran, _ = self._look()

    def goes_on(self) -> bool:
        """Return whether it did something since the last look, and not for longer than it may."""
        before, (self._ran, runs) = self._ran, self._look()
        lasts_s = time.monotonic() - self._since
        if not self._ran:
            return lasts_s < UNSEEN_S
        return (runs or self._ran != before) and lasts_s < PATIENCE_S

    def _look(self) -> tuple[str, bool]:
        """Return how long it has run, as text, "" where that is not shown; and whether it runs, or could."""
        try:
            ran = Path(f"/proc/{self._pid}/schedstat").read_text()
            return ran, Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"
        except (OSError, IndexError):
            return "", False


def start(interpreter: str, script: str, *words: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a script of this directory: its process, and our end of a socket pair. Its first word is its own end.

    Raises Unsupported where no process can be started, OSError without descriptors.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [interpreter, "-I", *("-S",) * (script == HELPER), str(HERE / script), str(theirs.fileno()), *words],
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},  # nothing of the user's reaches what runs as root
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unsupported(f"no process can be started: {error.strerror}", LIMITS_HINT) from error
    ours.settimeout(PATIENCE_S)
    return process, ours


def end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """Let it finish, which it does when the pair is closed; kill what does nothing. May be called twice.

    Without privilege it can't be killed: a frozen one ends as soon as it runs again.
    """
    connection.close()
    activity = Activity(process.pid)
    while not _has_ended(process):
        if not activity.goes_on():
            with suppress(PermissionError):
                process.kill()
            _has_ended(process)
            return


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait for GRACE_S at most."""
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return False
    return True


class LoaderProcess:
    """A loader that imports bcc and waits for its one request. It ends by itself when the socket is closed."""

    def __init__(self, interpreter: str) -> None:
        """Start it under this interpreter."""
        self.process, self.connection = start(interpreter, "loader.py")

    def send(self, request: dict[str, Any]) -> None:
        """Its one request. That it is dead already is told by ``receive``."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Return the answer and its descriptors. Unless it was asked to become the helper, the child ends by itself."""
        try:
            return self._receive()
        except OSError as error:
            return {"error": "died", "message": f"the loader did not answer: {error}", "hint": ""}, []

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        data, fds, _, _ = socket.recv_fds(self.connection, 1 << 16, 32)
        while data and not data.endswith(b"\n"):
            more = self.connection.recv(1 << 16)
            if not more:
                break
            data += more
        if not data.endswith(b"\n"):
            for fd in fds:
                os.close(fd)
            return {"error": "died", "message": "the loader ended without an answer", "hint": ""}, []
        answer: dict[str, Any] = json.loads(data)
        return answer, fds

    def close(self) -> None:
        """End it, if it has not ended. May be called twice."""
        end(self.process, self.connection)
