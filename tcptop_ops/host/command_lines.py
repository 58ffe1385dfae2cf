"""Command lines of processes, cut to what tells programs apart. Pure.

Of a program that runs another one (``java``, ``python3``, ``node``, a shell) it is that one: the script, module,
archive or class. Options are left out, and so is the word behind an option that has no ``=``, which may be its value:
what is secret in a command line is nearly always there. Of a URL neither user, password nor query is kept.
"""

from __future__ import annotations

import re

LONGEST = 64
"""Characters that are kept."""

MOST_WORDS = 2
"""Arguments that are kept behind a program's name."""

_VALUES = {
    "python": ("-W", "-X", "--check-hash-based-pycs"),
    "java": (
        *("-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules"),
        *("--add-opens", "--add-exports", "--add-reads", "--limit-modules", "--patch-module", "--enable-native-access"),
    ),
    "node": ("-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file"),
    "ruby": ("-I", "-r", "-C", "-E"),
    "perl": ("-I",),
    "php": ("-d", "-c", "-z"),
    "lua": ("-l",),
    "sh": ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"),
    "dotnet": ("--runtimeconfig", "--depsfile", "--additionalprobingpath", "--fx-version"),
}
"""Options of an interpreter whose value is the next word."""

_CODE = {
    "python": ("-c",),
    "node": ("-e", "--eval", "-p", "--print"),
    "ruby": ("-e",),
    "perl": ("-e", "-E"),
    "php": ("-r",),
    "lua": ("-e",),
    "sh": ("-c",),
}
"""Options of an interpreter whose value is the program itself: that it is there is told, and not what it is."""

_MODULE = {"python": ("-m",), "java": ("-m", "--module")}
"""Options of an interpreter whose value names what it runs."""

_INTERPRETERS = {
    "pypy": "python",
    "nodejs": "node",
    "deno": "node",
    "bun": "node",
    **dict.fromkeys(("bash", "dash", "zsh", "ksh", "ash", "busybox"), "sh"),
    "luajit": "lua",
    "mono": "dotnet",
}
"""By another name, without the version behind it."""

_VERSION = re.compile(r"[0-9][0-9.]*[a-z]?$")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_USER_OF_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/@]*@")


def telling(line: bytes) -> str:
    """Return what tells programs apart of a command line as /proc/PID/cmdline has it; "" for none.

    A single word with spaces is a title that the process gave itself, as nginx and PostgreSQL do: it is kept.
    """
    words = [word.decode("utf-8", "surrogateescape") for word in line.rstrip(b"\0").split(b"\0")]
    if not words[0].strip():
        return ""
    if len(words) == 1 and " " in words[0].strip():
        return words[0].strip()[:LONGEST].rstrip()
    program, rest = _base(words[0]).removeprefix("-"), words[1:]
    kind = _kind(program)
    found = _run_by(program, kind, rest) if kind else [program, *_plain(rest)]
    return " ".join(found)[:LONGEST].rstrip()


def _kind(program: str) -> str:
    """Return what an interpreter is one of; "" for a program that is none."""
    name = _VERSION.sub("", program).rstrip("-") or program
    name = _INTERPRETERS.get(name, name)
    return name if name in _VALUES else ""


def _run_by(program: str, kind: str, rest: list[str]) -> list[str]:
    at = 0
    while at < len(rest) and rest[at].startswith(("-", "+")):
        word = rest[at]
        if word in _CODE.get(kind, ()) or (kind == "sh" and re.fullmatch(r"-[a-z]*c[a-z]*", word)):
            return [program, "-c" if kind == "sh" else word]
        if word in _MODULE.get(kind, ()) and at + 1 < len(rest):
            return [rest[at + 1], *_plain(rest[at + 2 :])]
        at += 2 if word in _VALUES[kind] else 1
    if at >= len(rest):
        return [program]
    if rest[at] in ("run", "exec") and program in ("deno", "bun", "dotnet"):
        return _run_by(program, kind, rest[at + 1 :])
    runs = _base(rest[at])
    return [runs] if _SUFFIX.search(runs) or kind == "java" else [runs, *_plain(rest[at + 1 :])]


def _plain(words: list[str]) -> list[str]:
    """Return the first arguments that are neither options nor may be the value of one."""
    kept: list[str] = []
    after_option = False
    for word in words:
        is_option = word.startswith("-")
        shown = _shown(word)
        if shown and not is_option and not after_option and "=" not in shown and not shown.startswith("-"):
            kept.append(shown)
        after_option = is_option and "=" not in word
        if len(kept) == MOST_WORDS:
            break
    return kept


def _shown(word: str) -> str:
    if "://" in word:
        return _USER_OF_URL.sub(r"\1", word).partition("?")[0]
    return _base(word) if word.startswith(("/", "./", "../")) else word


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path
