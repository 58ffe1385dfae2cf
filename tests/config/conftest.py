"""A home to write settings files into."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of whoever runs this, with no sudo in the environment."""
    for name in ("SUDO_UID", "DOAS_UID", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    entry = (str(os.geteuid()), "x", os.geteuid(), os.getegid(), "", str(tmp_path), "")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(entry))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
