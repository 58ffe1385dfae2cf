"""The program at work for an hour under traffic: ``python -m tests.soak``."""
