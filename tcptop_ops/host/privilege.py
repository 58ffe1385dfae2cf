"""Dropping privilege: the monitor becomes the user who called sudo or doas, or nobody, and keeps no capability."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import pwd
import sys
from dataclasses import dataclass

from tcptop_ops.bpf.helper_process import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS

NOBODY = 65534
"""The kernel's overflow user (/proc/sys/kernel/overflowuid), where no user is called nobody."""

_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    """The user and group that the monitor becomes."""

    uid: int
    gid: int
    name: str


def target_user() -> User:
    """Return the user who called sudo or doas, by SUDO_UID or DOAS_UID, else nobody.

    The variables are trusted: only root could forge them, and may become whom it likes.
    """
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
        return User(uid, NOBODY, str(uid))  # without an entry its group is not known
    return User(uid, entry.pw_gid or NOBODY, entry.pw_name)


def never_gain() -> None:
    """Set no_new_privs (prctl(2)): no program that this process executes from now on gains privilege.

    It holds for the calling thread and what that starts, so it is called before the first other thread.
    """
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def give_up() -> str:
    """Drop root and all capabilities for good, in all threads. Return what could not be dropped, "" if all was.

    In a user namespace the other user may not exist. The process is made undumpable (PR_SET_DUMPABLE), so that other
    processes of that user can neither trace it nor read its memory.
    """
    if os.geteuid() != 0:
        return _drop_capabilities()
    user = target_user()
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)  # glibc applies it to all threads (setxid of nptl)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        return f"still root: can't become {user.name}: {error.strerror}"
    finally:
        _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return ""


def _drop_capabilities() -> str:
    """Drop the capabilities of this thread, and so of the threads that it starts; return as ``give_up``."""
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
    "tcptop_ops.filters.compiler",
    "tcptop_ops.recording.writer",
    "tcptop_ops.config.toml_text",
    "tomlkit",
)
"""Modules that are imported only when they are needed, after root was dropped."""


def import_what_will_be_hidden() -> None:
    """Import LATER now if the user to become cannot read Python or a directory of packages, such as one in /root."""
    if os.geteuid() != 0:
        return
    user, places = target_user(), (os.__file__, __file__, *filter(os.path.isabs, sys.path))
    if not all(is_open_to(user, place) for place in places if os.path.exists(place)):
        for name in filter(importlib.util.find_spec, LATER):  # numpy before 2.0 lacks one
            importlib.import_module(name)
        importlib.import_module("rich.cells").cell_len("漢")  # imports the table of its Unicode version


def is_open_to(user: User, path: str) -> bool:
    """Return whether a path can be read by this user, by its mode and those of all directories above it.

    Every directory must be readable and searchable; ACLs are not considered. Raises OSError where there is none.
    """
    while True:
        mode = _class_mode(os.stat(path), user)
        if not mode & 4 or (os.path.isdir(path) and not mode & 1):
            return False
        above = os.path.dirname(path)
        if above == path:
            return True
        path = above


def _class_mode(found: os.stat_result, user: User) -> int:
    """Return the three bits of the mode (rwx) that apply to this user: the owner's, the group's or the others'."""
    shift = 6 if found.st_uid == user.uid else 3 if found.st_gid == user.gid else 0
    return found.st_mode >> shift & 7
