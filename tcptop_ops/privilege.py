"""Giving up root: the monitor becomes the user who called sudo, or nobody, and keeps no capability."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import pwd
import sys
from dataclasses import dataclass

from tcptop_ops.bpf.helper import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS

NOBODY = 65534
"""The kernel's overflow user (/proc/sys/kernel/overflowuid), where no user is called nobody."""

_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    """Whom to become."""

    uid: int
    gid: int
    name: str


def target_user() -> User:
    """The user who called sudo or doas, as the environment tells (root can forge it, and may); else nobody."""
    for name in ("SUDO_UID", "DOAS_UID"):
        text = os.environ.get(name, "")
        if text.isascii() and text.isdecimal() and len(text) < 11 and 0 < int(text) < 2**32 - 1:
            return _user(int(text))
    try:
        return _user(pwd.getpwnam("nobody").pw_uid)
    except KeyError:
        return User(NOBODY, NOBODY, "nobody")


def _user(uid: int) -> User:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, NOBODY, str(uid))  # a group of one's own can't be told
    return User(uid, entry.pw_gid or NOBODY, entry.pw_name)


def never_gain() -> None:
    """From here on nothing that this thread, its children or its later threads execute gains privilege (prctl(2))."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def give_up() -> str:
    """Leave root for good, in all threads; the process stays closed to those who would look into it.

    What could not be given up, "" for nothing: in a user namespace the other user may not exist.
    """
    if os.geteuid() != 0:
        return _drop_capabilities()
    user = target_user()
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)  # glibc has every thread do it (setxid, nptl)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        return f"still root: can't become {user.name}: {error.strerror}"
    finally:
        _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return ""


def _drop_capabilities() -> str:
    """Those that a user other than root was given: of this thread, and of those that it starts."""
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if _libc.capset(header, none):
        return f"capabilities were kept: {os.strerror(ctypes.get_errno())}"
    return ""


LATER = (
    "concurrent.futures.thread",
    "getpass",
    "html",
    "lark",
    "numpy.char",
    "numpy.ma",
    "numpy.strings",
    "pygments.lexers",
    "pygments.modeline",
    "pygments.plugin",
    "rich.traceback",
    "sqlite3",
    "tcptop_ops.filters",
    "tcptop_ops.recording.writer",
    "tcptop_ops.settings_text",
    "tomlkit",
)
"""What is imported only when it is needed, after root was given up."""


def import_what_will_be_hidden() -> None:
    """Import LATER now, if the user to be can't read where Python, packages or this one live: below /root, say."""
    if os.geteuid() != 0:
        return
    user, places = target_user(), (os.__file__, __file__, *filter(os.path.isabs, sys.path))
    if not all(is_open_to(user, place) for place in places if os.path.exists(place)):
        for name in filter(importlib.util.find_spec, LATER):  # numpy before 2.0 has fewer
            importlib.import_module(name)
        importlib.import_module("rich.cells").cell_len("漢")  # imports the table of its Unicode version


def is_open_to(user: User, path: str) -> bool:
    """Whether the modes of a path and of all directories above it let this user read it."""
    while True:
        mode = _class_mode(os.stat(path), user)
        if not mode & 4 or (os.path.isdir(path) and not mode & 1):
            return False
        above = os.path.dirname(path)
        if above == path:
            return True
        path = above


def _class_mode(found: os.stat_result, user: User) -> int:
    """The three bits of the mode that count for this user."""
    shift = 6 if found.st_uid == user.uid else 3 if found.st_gid == user.gid else 0
    return found.st_mode >> shift & 7
