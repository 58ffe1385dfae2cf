"""Tests: of each folder of the package, of the real program (live), of what it costs (bench), for an hour (soak)."""
