"""The version of the installed package."""

from __future__ import annotations

from tcptop_ops.errors import Failed, TcptopError


def version() -> str:
    """Return the version of the installed package. Raises Failed where it runs without being installed."""
    from importlib import metadata

    try:
        return metadata.version("tcptop-ops")
    except metadata.PackageNotFoundError:
        raise Failed("the package is not installed: its version is not known", "./run --version") from None


def program_version() -> str:
    """Return the version, or "?": a checkout that is not installed records too."""
    try:
        return version()
    except TcptopError:
        return "?"
