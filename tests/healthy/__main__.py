"""Run the healthy traffic: ``python -m tests.healthy [--minutes 10]``, as root."""

import sys

from tests.healthy.run import main

sys.exit(main())
