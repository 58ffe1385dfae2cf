"""Derive the service, container or pod from the path of a cgroup. Pure.

Recognised layouts, as documented by the managers: systemd (systemd.unit(5), names escaped as by systemd-escape(1)),
Docker and Podman with the systemd or the cgroupfs driver, CRI (containerd, CRI-O) below Kubernetes' kubepods, LXC.
"""

from __future__ import annotations

import re
from functools import lru_cache

_ID = r"(?P<id>[0-9a-f]{12})[0-9a-f]{20,52}"
_POD = re.compile(r"(?:^|[-/])pod(?P<uid>[0-9a-f]{8}[-_][0-9a-f_-]{4,27}|[0-9a-f]{32})(?:\.slice)?(?:/|$)")
_CONTAINERS = (
    ("docker", re.compile(rf"(?:^|/)(?:docker-|docker/){_ID}(?:\.scope)?(?:/|$)")),
    ("podman", re.compile(rf"(?:^|/)libpod-(?:conmon-)?{_ID}(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(rf"(?:^|/)(?:cri-containerd|nerdctl|containerd)-{_ID}(?:\.scope)?(?:/|$)")),
    ("crio", re.compile(rf"(?:^|/)crio-(?:conmon-)?{_ID}(?:\.scope)?(?:/|$)")),
    ("container", re.compile(rf"(?:^|/){_ID}(?:/|$)")),
)
_LXC = re.compile(r"(?:^|/)lxc(?:\.payload\.|/)(?P<name>[^/]+)")
_MACHINE = re.compile(r"(?:^|/)machine-(?P<name>[^/]+)\.scope(?:/|$)")
_UNIT = re.compile(r"(?P<name>[^/]+)\.(?:service|scope|socket|mount|swap)$")


@lru_cache(maxsize=4096)
def service_of(path: str) -> str:
    """Return the name that a cgroup path stands for; the path itself if no layout matches; "" for the root cgroup.

    Examples: ``nginx``, ``docker:3f2a90b1c4d5``, ``pod:8a6f9c2e/3f2a90b1c4d5``.
    """
    if path in ("", "/"):
        return ""
    container = next(((kind, found["id"]) for kind, pattern in _CONTAINERS if (found := pattern.search(path))), None)
    pod = _POD.search(path)
    if pod:
        return f"pod:{pod['uid'][:8]}" + (f"/{container[1]}" if container else "")
    if container:
        return ":".join(container)
    for kind, pattern in (("lxc", _LXC), ("machine", _MACHINE)):
        if found := pattern.search(path):
            return f"{kind}:{_unescape(found['name'])}"
    return _unit(path) or path


def _unit(path: str) -> str:
    """Return the name of the innermost systemd unit: a delegated service may have cgroups of its own below it."""
    for part in reversed(path.split("/")):
        if found := _UNIT.match(part):
            return _unescape(found["name"])
    return ""


def _unescape(name: str) -> str:
    raw = re.sub(
        rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name.encode("utf-8", "surrogateescape")
    )
    return raw.decode("utf-8", "surrogateescape")
