"""The man page and the completions of bash, zsh and fish, made from the option table that --help shows. Pure.

``python -m tcptop_ops.cli.manual man|bash|zsh|fish`` prints one; ``docs/man`` holds what it printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tcptop_ops.config.key_names import CHARACTERS
from tcptop_ops.config.keymap import KEYS
from tcptop_ops.explain import pages
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME
from tcptop_ops.views.columns import COLUMNS

NAME = "tcptop-ops"
FILE_NAMES = {
    "man": "tcptop-ops.1",
    "bash": "tcptop-ops",
    "zsh": "_tcptop-ops",
    "fish": "tcptop-ops.fish",
}
"""What is printed, and the name of its file in ``docs/man``."""

VALUES = {
    "FILE": "file",
    "PATH": "directory",
    "LIST": "columns",
    "COLUMN[:asc|:desc]": "sort",
    "WORD": "words",
}
"""What may follow an option, by the name that --help gives it: what a completion offers."""


class Option(NamedTuple):
    """One line of --help. ``value``: as --help calls it, or ""; ``kind``: choices, one of VALUES, or ""."""

    names: tuple[str, ...]
    value: str
    help: str
    kind: str = ""
    choices: tuple[str, ...] = ()


class Section(NamedTuple):
    """A group of options, as --help heads it."""

    title: str
    options: tuple[Option, ...]


def sections(parser: argparse.ArgumentParser) -> tuple[Section, ...]:
    """Return the option table of a parser, group by group, empty ones left out."""
    groups = ((group.title or "", group._group_actions) for group in parser._action_groups)
    return tuple(Section(title, tuple(map(_option, actions))) for title, actions in groups if actions)


def _option(action: argparse.Action) -> Option:
    names, help = tuple(action.option_strings), (action.help or "") % vars(action)
    if action.nargs == 0:
        return Option(names, "", help)
    choices = tuple(str(choice) for choice in action.choices or ())
    metavar = action.metavar if isinstance(action.metavar, str) else "{" + ",".join(choices) + "}"
    return Option(names, metavar, help, "choices" if choices else VALUES.get(metavar, ""), choices)


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for section in sections(parser):
        yield from section.options


def _explained() -> tuple[str, ...]:
    """Return all words that --explain knows, aliases too, each once."""
    return tuple(dict.fromkeys([word.name for word in pages.words()] + list(COLUMNS_BY_NAME)))


# --- the man page


def _plain(text: str) -> str:
    """Escape a text so that roff prints it as it is: no escape, no request, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    text = text.replace("'", "\\(aq").replace("`", "\\(ga").replace("\n", " ")
    return "\\&" + text if text[:1] == "." else text


def _bold(text: str) -> str:
    return f"\\fB{_plain(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_plain(text)}\\fR"


def _tagged(tag: str, text: str) -> str:
    return f".TP\n{tag}\n{_plain(text)}" if text else f".TP\n{tag}\n\\&"


def _heading(option: Option) -> str:
    value = f" {_italic(option.value)}" if option.value else ""
    return ", ".join(_bold(name) + value for name in option.names)


DESCRIPTION = (
    "A top for TCP. It tells which connections are bad, whose they are, and why. A BPF sock_ops program is called by"
    " the kernel at every event in a socket's life (connect, round-trip sample, retransmit, timeout, state change,"
    " close); the present state of all sockets is read beside it. Nothing samples packets, nothing is written into the"
    " traffic, and nothing is left in the kernel afterwards.",
    "Root is needed for the start alone, to load and attach the program; the distribution's bcc compiles it. Without"
    " either, or with --source sockdiag, sockets are polled. A recording is played with neither.",
    "Without an option the screen opens. To a pipe or a file write --batch, --json and --csv; their first tick comes"
    " one delay after the start.",
)

EXIT_STATUS = (
    ("0", "Fine; also after a signal, or when the reader of its output went away."),
    ("1", "It failed while running."),
    ("2", "The command line or the settings file is wrong."),
    ("3", "This host or this user can't do it; the second line of the error says what to do."),
    ("4", "A connection matched --fail-if."),
)

FILTERS = (
    "field op value, with = != < <= > >= and ~ (a regular expression), joined by and, or, not and parentheses."
    " Fields are the ids and aliases of columns, and the shorthands port and host.",
    "Values have the units that people write: srtt > 20ms, tx > 1MB/s, age < 5m. host = 10.0.0.0/8 takes a"
    " prefix. A bare word matches process, addresses and state: nginx, :443, 10.2., syn-sent.",
    "The language is the same in --filter, --fail-if, --record-if and on the screen.",
)

FILES = (
    (
        "~/.config/tcptop-ops/config.toml",
        "The settings; the key w saves them, --print-config explains them. Under sudo those of the calling user. Where"
        " XDG_CONFIG_HOME is set, it is below that directory, but never for root.",
    ),
)

ENVIRONMENT = (
    ("TCPTOP_NO_CONFIG", "If set, the settings file is left unread, as by --no-config."),
    ("NO_COLOR", "If set, the screen has no colours."),
    ("TERM, COLORTERM, COLORFGBG", "What --theme auto is chosen by."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME", "Where the settings are, and what remembers the first start; not for root."),
    ("SUDO_UID, SUDO_GID, DOAS_UID", "Whom the program becomes once root is not needed any more; else nobody."),
)

EXAMPLES = (
    ("sudo tcptop-ops", "The screen, the worst connection first."),
    ("sudo tcptop-ops --filter 'retr% > 1 and not port = 22'", "Those with retransmits, but for SSH."),
    ("sudo tcptop-ops --json --once", "One JSON object: all connections, all fields."),
    ("sudo tcptop-ops --batch -n 1 -c process,peer,srtt,retr", "A plain table of four columns."),
    ("sudo tcptop-ops --once --fail-if 'retr% > 5 and rto > 0'", "A check: exit status 4 if a connection matches."),
    ("tcptop-ops --source sockdiag --once --csv", "No root, no BPF."),
    ("sudo tcptop-ops --record /tmp/trouble.tcptop", "Write all ticks to a file."),
    ("tcptop-ops --replay /tmp/trouble.tcptop", "Play it, anywhere."),
    ("tcptop-ops --explain rto-stall", "What a cause means, and what to do about it."),
)


def man(parser: argparse.ArgumentParser) -> str:
    """Return the page tcptop-ops(1), in man(7) macros."""
    lines = [
        '.\\" Made by python -m tcptop_ops.cli.manual man; changes belong there.',
        f'.TH {NAME.upper()} 1 "" "{NAME}" "User Commands"',
        ".SH NAME",
        f"{_plain(NAME)} \\- which TCP connections are bad, whose they are, and why",
        ".SH SYNOPSIS",
        f"{_bold(NAME)} [{_italic('options')}]",
        ".SH DESCRIPTION",
        "\n.PP\n".join(map(_plain, DESCRIPTION)),
        ".SH OPTIONS",
    ]
    for section in sections(parser):
        lines.append(f".SS {_plain(section.title.capitalize())}")
        lines += [_tagged(_heading(option), option.help) for option in section.options]
    lines += [".SH EXIT STATUS", *(_tagged(_bold(status), text) for status, text in EXIT_STATUS)]
    lines += [".SH FILTERS", "\n.PP\n".join(map(_plain, FILTERS))]
    lines += [".SH COLUMNS", "An alias stands behind the id."]
    lines += [_tagged(_bold(c.id) + (f" ({_bold(c.alias)})" if c.alias else ""), c.help) for c in COLUMNS]
    lines += [".SH KEYS", "They can be changed in the settings file."]
    lines += [_tagged(", ".join(map(_bold, keys)), words) for words, keys in keys_by_words().items()]
    lines += [".SH FILES", *(_tagged(_italic(path), text) for path, text in FILES)]
    lines += [".SH ENVIRONMENT", *(_tagged(_bold(name), text) for name, text in ENVIRONMENT)]
    lines += [".SH EXAMPLES", *(_tagged(_bold(command), text) for command, text in EXAMPLES)]
    lines += [".SH SEE ALSO", ".BR ss (8),", ".BR tcpdump (8),", ".BR bpftool (8),", ".BR tcp (7)"]
    return "\n".join(lines) + "\n"


def keys_by_words() -> Mapping[str, list[str]]:
    """Return the keys, as they are typed, by what they do."""
    found: dict[str, list[str]] = {}
    for key in KEYS:
        found.setdefault(key.told or key.words, []).extend(map(_typed, key.keys.split(",")))
    return found


def _typed(key: str) -> str:
    if key == "space" or len(key) == 1:
        return key
    return CHARACTERS.get(key) or key.replace("ctrl+", "Ctrl-").replace("pageup", "PgUp").replace("pagedown", "PgDn")


# --- bash

BASH = r"""# bash completion for tcptop-ops. Made by python -m tcptop_ops.cli.manual bash; changes belong there.

_tcptop_ops() {
    local columns='@COLUMNS@'
    local words='@WORDS@'
    local options='@OPTIONS@'
    local i=$COMP_CWORD word=${COMP_WORDS[COMP_CWORD]} option before='' first kept='' breaks value choices=''
    # readline breaks words at = and :, and replaces what is behind the last of them
    while ((i > 1)) && [[ ${COMP_WORDS[i]} == [:=]* || ${COMP_WORDS[i - 1]} == [:=] ]]; do
        ((i -= 1))
        word=${COMP_WORDS[i]}$word
    done
    option=${COMP_WORDS[i - 1]} value=$word
    breaks=${COMP_WORDBREAKS//[!:=]/}
    [[ -z $breaks ]] || kept=${word%"${word##*[$breaks]}"}
    if [[ $word == --*=* ]]; then
        option=${word%%=*} value=${word#*=} before=$option=
    fi
    COMPREPLY=()
    case $option in
@CASES@
        *'>' | *'<') compopt -o default; return ;;
        *) choices=$options before='' value=$word ;;
    esac
    [[ -n $choices ]] || return
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$choices" -- "$value")
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
complete -F _tcptop_ops tcptop-ops
"""

BASH_ACTIONS = {
    "file": "compopt -o default; return",
    "directory": "compopt -o dirnames; return",
    "columns": """first=${value%"${value##*,}"} value=${value##*,}
            [[ $value != [+-]* ]] || first+=${value:0:1} value=${value:1}
            before+=$first choices=$columns
            [[ -n $first ]] || choices+=' all'
            compopt -o nospace""",
    "sort": """if [[ $value == *:* ]]; then
                choices="${value%%:*}:asc ${value%%:*}:desc"
            else
                choices=$columns
                compopt -o nospace
            fi""",
    "words": "choices=$words",
    "": "return",
}


def bash(parser: argparse.ArgumentParser) -> str:
    """Return a completion that needs bash 4 and nothing else."""
    options = list(_options(parser))
    cases = [
        f"        {' | '.join(option.names)})\n            {_bash_action(option)}\n            ;;"
        for option in options
        if option.value
    ]
    return _filled(
        BASH,
        COLUMNS=COLUMNS_BY_NAME,
        WORDS=_explained(),
        OPTIONS=[n for o in options for n in o.names],
        CASES="\n".join(cases),
    )


def _bash_action(option: Option) -> str:
    if option.kind == "choices":
        return f"choices='{' '.join(option.choices)}'"
    return BASH_ACTIONS[option.kind]


def _filled(template: str, **parts: str | list[str] | tuple[str, ...] | Mapping[str, object]) -> str:
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part if isinstance(part, str) else " ".join(part))
    return template


# --- zsh

ZSH = r"""#compdef tcptop-ops
# zsh completion for tcptop-ops. Made by python -m tcptop_ops.cli.manual zsh; changes belong there.

_tcptop-ops_columns() {
    local -a columns=(@COLUMNS@)
    compset -P '*,' || compset -P '[+-]' || columns+=(all)
    compset -P '[+-]'
    compset -S ',*'
    compadd -S '' -a columns
}

_tcptop-ops_sort() {
    local -a columns=(@COLUMNS@)
    if compset -P '*:'; then
        compadd asc desc
    else
        compadd -S '' -a columns
    fi
}

_tcptop-ops_words() {
    compadd @WORDS@
}

_tcptop-ops() {
    _arguments -s -S \
@OPTIONS@
}

if [[ $funcstack[1] == _tcptop-ops ]]; then
    _tcptop-ops "$@"
else
    compdef _tcptop-ops tcptop-ops
fi
"""

ZSH_ACTIONS = {
    "file": "_files",
    "directory": "_files -/",
    "columns": "_tcptop-ops_columns",
    "sort": "_tcptop-ops_sort",
    "words": "_tcptop-ops_words",
    "": " ",
}


def zsh(parser: argparse.ArgumentParser) -> str:
    """Return a completion function, for a directory of fpath."""
    lines = [f"        {line}" for option in _options(parser) for line in _zsh_lines(option)]
    return _filled(ZSH, COLUMNS=COLUMNS_BY_NAME, WORDS=_explained(), OPTIONS=" \\\n".join(lines))


def _zsh_lines(option: Option) -> Iterator[str]:
    others = f"({' '.join(option.names)})" if len(option.names) > 1 else ""
    told = "[" + _zsh_escaped(option.help) + "]"
    for name in option.names:
        if not option.value:
            yield _quoted(f"{others}{name}{told}")
            continue
        action = f"({' '.join(option.choices)})" if option.kind == "choices" else ZSH_ACTIONS[option.kind]
        attached = "=" if name.startswith("--") else "+"
        yield _quoted(f"{others}{name}{attached}{told}:{_zsh_escaped(option.value)}:{action}")


def _zsh_escaped(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish

FISH = r"""# fish completion for tcptop-ops. Made by python -m tcptop_ops.cli.manual fish; changes belong there.

function __tcptop_ops_columns
    set -l value (commandline -ct | string replace -r -- '^--columns=' '')
    set -l first (string match -r -- '^(?:.*,)?[+-]?' $value)
    test -n "$first"; or echo all
    for column in @COLUMNS@
        echo "$first$column"
    end
end

function __tcptop_ops_sort
    for column in @COLUMNS@
        printf '%s\n' $column $column:asc $column:desc
    end
end

complete -c tcptop-ops -f
@OPTIONS@
"""

FISH_ACTIONS = {
    "file": "-r -F",
    "directory": "-x -a '(__fish_complete_directories)'",
    "columns": "-x -a '(__tcptop_ops_columns)'",
    "sort": "-x -a '(__tcptop_ops_sort)'",
    "": "-x",
}


def fish(parser: argparse.ArgumentParser) -> str:
    """Return a completion for fish 3 and later."""
    lines = (line for option in _options(parser) for line in _fish_lines(option))
    return _filled(FISH, COLUMNS=COLUMNS_BY_NAME, OPTIONS="\n".join(lines))


def _fish_lines(option: Option) -> Iterator[str]:
    """Yield a line for each long name; the short ones go with the first."""
    short = "".join(f" -s {name[1:]}" for name in option.names if not name.startswith("--"))
    for name in (name for name in option.names if name.startswith("--")):
        words = ["complete -c tcptop-ops" + short, f"-l {name[2:]}", _fish_action(option), "-d " + _fish(option.help)]
        yield " ".join(word for word in words if word)
        short = ""


def _fish_action(option: Option) -> str:
    if not option.value:
        return ""
    if option.kind in ("choices", "words"):
        return f"-x -a '{' '.join(option.choices or _explained())}'"
    return FISH_ACTIONS[option.kind]


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


MAKERS: Mapping[str, Callable[[argparse.ArgumentParser], str]] = {"man": man, "bash": bash, "zsh": zsh, "fish": fish}


def main(argv: list[str]) -> int:
    """Print what is named, and return 0; 2 where nothing of that name is made."""
    from tcptop_ops.cli.arguments import parser

    if len(argv) != 1 or argv[0] not in MAKERS:
        sys.stderr.write(f"usage: python -m tcptop_ops.cli.manual {'|'.join(MAKERS)}\n")
        return 2
    sys.stdout.write(MAKERS[argv[0]](parser()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
