"""Settings files with damage."""

from __future__ import annotations

import random
from dataclasses import replace

from tcptop_ops.config import toml_text
from tcptop_ops.errors import Failed, Usage
from tests.support.fuzz_run import Try

FILES = (
    "delay = 0.5 # fast\nsort = 'retr'\n\n# those that count\ncolumns = [\n  'peer', # whom\n  \"srtt\",\n]\n",
    "[widths]\npeer = 30\nlocal = 0x14\n[keys]\nquit = \"Q, f12\" # far\nsort.menu = 'S'\n\"filter.clear\" = '!'\n",
    'keys.quit = \'"\'\nthresholds.srtt = [2e4, 100_000]\nmouse = false\ntheme = """\\\n  dark"""\n',
    "thresholds = { rtt = [1, 2], 'retr%' = [0.1, 1.5] }\r\nnames = true\r\n# end",
    "columns = 'all'\nwindow = 60\nclosed = 0\ngroup = 'remote-net'\n\n[thresholds] # mine\nscore = [1, 2]\n[keys]\n",
    "",
)
TOML_PIECES = (
    *(
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "'",
        '"',
        '"""',
        "'''",
        "\\",
        "\0",
    ),
    *("true", "1979-05-27T07:32:00Z", "07:32:00", "inf", "-nan", "0x1F", "1e999", "9" * 5000, "1_0", "+.1", "\\u0000"),
    *("delay", "widths", "keys", "thresholds", "columns", "quit", "sort", "peer", "srtt", '"\\u001b"', "数", "\ufeff"),
    *(
        "a = 1\n",
        "[a]\n",
        "[[a]]\n",
        "a.b.c = [[{}]]\n",
        "[" * 200,
        "{a=" * 200,
        "a." * 200,
        "[keys]\n",
        "x = {a=1,a=2}\n",
    ),
)
CHANGES: tuple[dict[str, object], ...] = (
    {"delay": 2.0},
    {"columns": ("process", "peer")},
    {"columns": None, "theme": "light", "names": True},
    {"widths": {"peer": 40, "local": 5}},
    {"widths": {}, "thresholds": {"srtt_us": (1, 2)}},
    {"keys": {"quit": "z"}, "loopback": False},
)


def config_file(rng: random.Random) -> bytes:
    """Return a file as it should be, most often damaged: bytes, pieces, its end; or pieces of TOML in any order."""
    if rng.random() < 0.2:
        return "".join(rng.choices(TOML_PIECES, k=rng.randint(1, 30))).encode()
    text = rng.choice(FILES) + (rng.choice(FILES) if rng.random() < 0.1 else "")
    data = bytearray(text.encode())
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 40))
        kind = rng.randrange(5)
        if kind == 0:
            data[at : at + 1] = rng.randbytes(1)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = rng.choice(TOML_PIECES).encode()
        elif kind == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 3))
        else:
            del data[at:]
    return bytes(data)


def config_try() -> Try:
    """Read it and, where it is taken, change it: what is written is read as what was asked for, comments and all."""

    def attempt(rng: random.Random) -> str:
        data = config_file(rng)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return "not UTF-8"
        try:
            now = toml_text.parse(text)
        except Usage as error:
            line = int(error.message.removeprefix("config.toml line ").partition(":")[0])
            if not 1 <= line <= text.count("\n") + 1 or len(error.message) > 400 or not error.hint:
                raise ValueError(f"{error.message} | {error.hint}: {text!r}") from error
            return "refused"
        wanted = replace(now, **rng.choice(CHANGES))  # type: ignore[arg-type]
        try:
            made = toml_text.edited(text, wanted)
        except Usage:  # the keys that were changed are others' by now
            return "refused to change"
        except Failed:
            return "can't be changed"
        if toml_text.parse(made) != wanted or toml_text.edited(made, wanted) != made:
            raise ValueError(f"{text!r} became {made!r}")
        return "changed"

    return attempt
