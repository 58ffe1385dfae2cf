"""Find, read and write the settings file, with the rights of the user whose file it is."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tcptop_ops.config.settings import FILE, HINT, Settings
from tcptop_ops.errors import Failed, Usage
from tcptop_ops.host.privilege import User, target_user

PLACE = f"tcptop-ops/{FILE}"
MARK = "tcptop-ops/started"
"""A file in the state directory that exists once the user has started the program."""

MOST_BYTES = 64 << 10
"""Maximum size of the settings file, in bytes."""


def owner() -> User:
    """Return the user whose settings apply: the caller of sudo or doas, otherwise the effective user."""
    if os.geteuid() == 0:
        user = target_user()
        if str(user.uid) in (os.environ.get("SUDO_UID"), os.environ.get("DOAS_UID")):
            return user
    return User(os.geteuid(), os.getegid(), "")


def where() -> Path | None:
    """Return the path of the settings file, whether it exists or not; None for a user without a home directory.

    Call it before root is given up.
    """
    return _place("XDG_CONFIG_HOME", ".config", PLACE)


def where_mark() -> Path | None:
    """Return the path of the file that records a first start; None for a user without a home directory.

    Call it before root is given up.
    """
    return _place("XDG_STATE_HOME", ".local/state", MARK)


def _place(variable: str, usual: str, name: str) -> Path | None:
    """Return a path below the XDG directory in ``variable``, or below ``usual`` in the home directory.

    As root the environment is ignored: ``su`` and ``sudo -E`` leave another user's directories in it.
    """
    if os.geteuid() != 0:
        for named, below in ((variable, ""), ("HOME", usual)):
            if os.path.isabs(directory := os.environ.get(named, "")):
                return Path(directory, below, name)
    try:
        home = pwd.getpwuid(owner().uid).pw_dir
    except KeyError:
        return None
    return Path(home, usual, name) if os.path.isabs(home) else None


def is_first_start(mark: Path | None) -> bool:
    """Return whether this user has never started the program, and record the start. False if that can't be recorded."""
    if mark is None or (os.geteuid() == 0 and owner().uid != 0):
        return False
    try:
        _make_directories(mark)
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError:  # it exists already, or the directory can't be written
        return False
    return True


def load(path: Path | None) -> Settings:
    """Read the settings; without a file, return the defaults. Raises Usage.

    It takes the identity of the file's owner while it reads, process-wide: call it before other threads are started.
    """
    if path is None:
        return Settings()
    try:
        with acting_as(owner()):
            text = read(path)
    except OSError as error:
        if os.path.lexists(path):
            raise Usage(f"{FILE} can't be read as its owner: {error.strerror}", HINT) from error
        text = None
    if text is None:
        return Settings(path=path)
    from tcptop_ops.config.toml_text import parse  # imports tomlkit, which is needed only if there is a file

    return replace(parse(text), path=path)


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Take the identity of a user inside the block, for all threads (glibc's setxid).

    As root, opening a file in a user's home would follow a link to files that only root may read. Raises OSError if the
    identity can't be changed.
    """
    with ExitStack() as undo:
        if os.geteuid() == 0 and user.uid != 0:
            groups, gid = os.getgroups(), os.getegid()
            os.setgroups([])
            undo.callback(os.setgroups, groups)
            os.setegid(user.gid)
            undo.callback(os.setegid, gid)
            os.seteuid(user.uid)
            undo.callback(os.seteuid, 0)
        yield


def read(path: Path) -> str | None:
    """Return the text of the file; None if there is none. Raises Usage if it can't be read or is not UTF-8."""
    try:
        data = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Usage(f"{FILE} can't be read: {error.strerror}", f"it is {path}; --no-config leaves it unread") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Usage(f"{FILE} line {line}: not UTF-8", f"it is {path}; --no-config leaves it unread") from error


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # opening a FIFO would block
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Usage(f"{FILE} is not a regular file", f"it is {path}; --no-config leaves it unread")
        data = b""
        while more := os.read(handle, MOST_BYTES + 1 - len(data)):
            data += more
    finally:
        os.close(handle)
    if len(data) > MOST_BYTES:
        raise Usage(
            f"{FILE} is too large: more than {MOST_BYTES >> 10} KiB", f"it is {path}; --no-config leaves it unread"
        )
    return data


def save(path: Path | None, settings: Settings) -> None:
    """Write the settings that differ from the file; create it if needed.

    Raises Failed, and then the file is unchanged.
    """
    update(path, {item.name: getattr(settings, item.name) for item in fields(Settings) if item.compare})


def update(path: Path | None, changed: Mapping[str, Any]) -> None:
    """Write these settings only, as ``save`` does; the others stay as the file has them now."""
    if path is None:
        raise Failed("settings can't be saved: this user has no home", "")
    if os.geteuid() == 0 and owner().uid != 0:
        raise Failed("settings are not saved by root: try again in a moment", "root is given up once all is attached")
    try:
        before = read(path) or ""
        from tcptop_ops.config.toml_text import edited, parse

        after = edited(before, replace(parse(before), **changed))
        if after != before:
            _replace(path, after)
    except Usage as error:
        given_up = isinstance(error.__cause__, PermissionError) and path.is_relative_to("/root")
        why = "they are root's, which was given up: start it by sudo" if given_up else error.message
        raise Failed(f"settings can't be saved: {why}", error.hint) from error
    except OSError as error:
        raise Failed(f"settings can't be saved to {path}: {error.strerror}", "--print-config is a start") from error


def _replace(path: Path, text: str) -> None:
    """Replace the file atomically; if the path is a symbolic link, its target is replaced. Raises OSError."""
    _make_directories(path)
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    made = os.path.join(directory, f".{FILE}.{os.urandom(6).hex()}")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(made)
        raise
    with suppress(OSError):  # the file is written; not every file system can sync a directory
        _sync(directory)


def _make_directories(path: Path) -> None:
    for above in reversed([directory for directory in path.parents if not directory.exists()]):
        above.mkdir(0o700)


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
