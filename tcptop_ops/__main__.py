"""Run the program as ``python -m tcptop_ops``."""

from __future__ import annotations

import sys


def forget_working_directory() -> None:
    """Remove the working directory from ``sys.path``, where ``python -m`` puts it first.

    Otherwise a ``json.py`` in it would be imported in place of the standard library's, as root if that runs the
    program. It stays if the package itself is in it. With ``-I`` and ``-P`` Python never adds it.
    """
    home = __file__.rpartition("/")[0].rpartition("/")[0]
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False) and sys.path[0] != home:
        del sys.path[0]


if __name__ == "__main__":
    forget_working_directory()
    from tcptop_ops.cli.main import main

    sys.exit(main())
