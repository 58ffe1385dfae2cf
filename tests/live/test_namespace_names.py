"""Names of network namespaces on the real host, with and without root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.live.started import ROOT
from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import NETNS

AS_NOBODY = """
import os, sys
from tcptop_ops.host.namespace_names import NamespaceNames
names = NamespaceNames((sys.argv[1],))
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    os.listdir(sys.argv[1])
except PermissionError:
    print(names.read())
"""


def test_a_namespace_of_ip_netns(lab: Lab, cgroup: Path) -> None:
    made = lab.namespace("web")
    with Watch(cgroup) as watch:
        assert watch.flows.snapshot.namespace_names[(NETNS / made).stat().st_ino] == made


def test_a_directory_of_roots_is_read_after_root_was_given_up(tmp_path: Path) -> None:
    """As /run/docker is."""
    box = tmp_path / "docker" / "netns"
    box.mkdir(parents=True)
    box.chmod(0o755)
    box.parent.chmod(0o700)
    bound = box / "0123456789ab"
    bound.touch()
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", str(bound)], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(box)], cwd=ROOT, capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run(["umount", str(bound)], check=True)
    assert done.stdout.strip() == str({os.stat("/proc/self/ns/net").st_ino: bound.name})
