"""Run the soak: ``python -m tests.soak [--minutes 60]``, as root."""

import sys

from tests.soak.run import main

sys.exit(main())
