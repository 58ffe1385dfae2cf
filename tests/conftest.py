"""For all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a time is measured in a benchmark, never asserted
settings.load_profile("no deadline")
