"""Healthy traffic of every kind, and the monitor beside it, which has to be silent: ``python -m tests.healthy``."""
