"""Textual widgets and screens: they draw what other modules have computed, and do no I/O of their own."""
