"""python -m tcptop_ops"""

from __future__ import annotations

import sys


def forget_working_directory() -> None:
    """``-m`` puts the working directory before the standard library: as root, a ``json.py`` there would run as root.

    It stays where the package itself is in there. The console script, ``-I`` and ``-P`` never put it there.
    """
    home = __file__.rpartition("/")[0].rpartition("/")[0]
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False) and sys.path[0] != home:
        del sys.path[0]


if __name__ == "__main__":
    forget_working_directory()
    from tcptop_ops.cli.main import main

    sys.exit(main())
