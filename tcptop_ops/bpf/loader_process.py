"""The privileged processes: the loader, and the helper that it becomes.

Imports the standard library alone: the loader is started before anything slower is imported.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tcptop_ops.errors import Unsupported

HERE = Path(__file__).parent
INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Where a distribution's bcc is found. Fixed paths: what runs as root must not depend on PATH."""

HELPER = "helper.py"

PATIENCE_S = 60
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


def start(interpreter: str, script: str, *words: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a script of this directory: its process, and our end of a socket pair. Its first word is its own end."""
    ours, theirs = socket.socketpair()
    with theirs:
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
    ours.settimeout(PATIENCE_S)
    return process, ours


def end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """Let it finish, which it does when the pair is closed; kill what does not. May be called twice."""
    connection.close()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
