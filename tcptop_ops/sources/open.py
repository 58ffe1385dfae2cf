"""Which source this host and this user can have, and opening it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tcptop_ops.errors import Unsupported
from tcptop_ops.sources.base import AnnotatedSource, Source

if TYPE_CHECKING:
    from tcptop_ops.bpf.attach import Options, Pending

Opened = TypeVar("Opened")


def open_source(name: str, options: Options, pending: Pending | None = None) -> Source:
    """Open the source of this name, and drop root: what still needs privilege is done by the helper.

    "auto" is sockops or, where that is unsupported, sockdiag with a note that says why. ``pending``: what
    ``attach.begin`` returned. Raises Unsupported, Usage or Failed.
    """
    from tcptop_ops.host.privilege import give_up

    source = _open(name, options, pending)
    kept = give_up()
    return AnnotatedSource(source, kept) if kept else source


def without_root(source: Opened) -> Opened:
    """Drop root, and return ``source``: one that is open already and needs no privilege, such as a recording."""
    from tcptop_ops.host.privilege import give_up

    give_up()
    return source


def _open(name: str, options: Options, pending: Pending | None) -> Source:
    if name == "sockdiag":
        return _sockdiag(options)
    from tcptop_ops.sources.sockops import SockOpsSource

    try:
        return SockOpsSource(options, pending)
    except Unsupported as reason:
        if name == "sockops" or options.cgroup is not None:
            raise
        hint = f" ({reason.hint})" if reason.hint else ""
        return AnnotatedSource(_sockdiag(options), f"polled only: {reason.message}{hint}")


def _sockdiag(options: Options) -> Source:
    import os

    from tcptop_ops.bpf import cgroup
    from tcptop_ops.host.descriptors import PolledOwners
    from tcptop_ops.host.namespaces import widest
    from tcptop_ops.sources.cgroup_follow import FollowedCgroup
    from tcptop_ops.sources.namespace_dump import EveryNamespace
    from tcptop_ops.sources.polled import SockDiagSource

    followed = None
    if options.cgroup is not None:
        path, top = cgroup.resolve(options.cgroup)
        followed = None if path == top else FollowedCgroup(path, top, os.stat(path).st_ino)
    reach = widest(options.helper, options.may_close)
    owners = PolledOwners(reach.descriptors, reach.hidden_descriptors)
    return SockDiagSource(EveryNamespace(reach), owners, reach, followed)
