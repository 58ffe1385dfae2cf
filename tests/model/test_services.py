"""Names of services and containers, from paths as the managers make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.model.services import service_of

ID = "3f2a90b1c4d5" + "0123456789abcdef" * 3 + "0123"
POD = "8a6f9c2e-1b2c-4d3e-9f00-112233445566"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", ""),
        ("", ""),
        ("/system.slice/nginx.service", "nginx"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1"),
        ("/system.slice/dbus\\x2dbroker.service", "dbus-broker"),
        ("/system.slice/ssh.socket", "ssh"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.service", "app-firefox"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init"),
        ("/system.slice/postgresql.service/workers", "postgresql"),
        (f"/system.slice/docker-{ID}.scope", "docker:3f2a90b1c4d5"),
        (f"/docker/{ID}", "docker:3f2a90b1c4d5"),
        (f"/docker/{ID}/init.scope", "docker:3f2a90b1c4d5"),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman:3f2a90b1c4d5"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", "podman:3f2a90b1c4d5"),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd:3f2a90b1c4d5"),
        (
            "/kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{POD.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
            "pod:8a6f9c2e/3f2a90b1c4d5",
        ),
        (f"/kubepods/besteffort/pod{POD}/{ID}", "pod:8a6f9c2e/3f2a90b1c4d5"),
        (f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{ID}.scope", "pod:8a6f9c2e/3f2a90b1c4d5"),
        (f"/kubepods/pod{POD}", "pod:8a6f9c2e"),
        ("/lxc.payload.web/system.slice/nginx.service", "lxc:web"),
        ("/lxc/web", "lxc:web"),
        ("/machine.slice/machine-debian\\x2d12.scope", "machine:debian-12"),
        ("/system.slice", "/system.slice"),
        ("/my/own/group", "/my/own/group"),
        ("/system.slice/podcast.service", "podcast"),
        ("/system.slice/docker.service", "docker"),
    ],
)
def test_service_of(path: str, service: str) -> None:
    assert service_of(path) == service


@given(st.text(max_size=200))
def test_any_path_has_a_name_unless_it_is_the_root(path: str) -> None:
    assert bool(service_of(path)) == (path not in ("", "/"))
