"""A hundred thousand bad inputs: ``python -m tests.support.fuzz filters|netlink|config [COUNT] [SEED]``.

Each must be taken or refused by its documented error, soon; and all of them together must not use up memory. What
breaks that is reported with the seed and the input, and the exit status is 1. The same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

from tests.support.fuzz_config import config_try
from tests.support.fuzz_filters import filters_try
from tests.support.fuzz_netlink import netlink_try
from tests.support.fuzz_run import Try, run

TRIES: dict[str, Callable[[], Try]] = {"filters": filters_try, "netlink": netlink_try, "config": config_try}


def main() -> int:
    """Exit status 1 where something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz")
    parser.add_argument("what", choices=TRIES)
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    report = run(TRIES[given.what](), given.count, given.seed)
    print(f"{given.what}: {report.line()}")
    for broken in report.broken[:20]:
        print(ascii(broken))
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
