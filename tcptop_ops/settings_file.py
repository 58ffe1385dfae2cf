"""The configuration file: whose it is, where it is, reading and writing it with the rights of that user alone."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tcptop_ops.errors import Failed, Usage
from tcptop_ops.privilege import User, target_user
from tcptop_ops.settings import FILE, HINT, Settings

PLACE = f"tcptop-ops/{FILE}"
MARK = "tcptop-ops/started"
MOST_BYTES = 64 << 10


def owner() -> User:
    """Whose settings count: under sudo or doas those of the caller, else those of whoever runs this."""
    if os.geteuid() == 0:
        user = target_user()
        if str(user.uid) in (os.environ.get("SUDO_UID"), os.environ.get("DOAS_UID")):
            return user
    return User(os.geteuid(), os.getegid(), "")


def where() -> Path | None:
    """The file, whether it is there or not; None for a user without a home. To be asked before root is given up."""
    return _place("XDG_CONFIG_HOME", ".config", PLACE)


def where_mark() -> Path | None:
    """What tells that this user has started the program before. To be asked before root is given up."""
    return _place("XDG_STATE_HOME", ".local/state", MARK)


def _place(variable: str, usual: str, name: str) -> Path | None:
    """Root's environment has no say: ``su`` and ``sudo -E`` leave another user's directories in it."""
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
    """Whether this user has not started it before; no longer from now on. False where that can't be remembered."""
    if mark is None or (os.geteuid() == 0 and owner().uid != 0):
        return False
    try:
        _make_directories(mark)
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError:  # it is there; or there is no home to write to
        return False
    return True


def load(path: Path | None) -> Settings:
    """What the file says; without one, the defaults. Raises Usage.

    For the main thread, before there are others: it becomes the file's owner for as long as it reads.
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
    from tcptop_ops.settings_text import parse  # and tomlkit: only where there is a file

    return replace(parse(text), path=path)


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """With this user's rights, in the whole process (glibc's setxid). Raises OSError where root can't become that user.

    Root would follow a link in somebody's home to what only root may read.
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
    """The text; None where there is no file. Raises Usage."""
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
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a FIFO is not waited for
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
    """Change in the file what differs; make it where there is none. Raises Failed: then it is as it was."""
    update(path, {item.name: getattr(settings, item.name) for item in fields(Settings) if item.compare})


def update(path: Path | None, changed: Mapping[str, Any]) -> None:
    """As ``save``, of these settings alone: the others stay as the file has them now."""
    if path is None:
        raise Failed("settings can't be saved: this user has no home", "")
    if os.geteuid() == 0 and owner().uid != 0:
        raise Failed("settings are not saved by root: try again in a moment", "root is given up once all is attached")
    try:
        before = read(path) or ""
        from tcptop_ops.settings_text import edited, parse

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
    """All of it or nothing; a link stays one, and what it leads to is replaced. Raises OSError."""
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
    with suppress(OSError):  # it is there, even where a file system can't be told to keep its directory
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
