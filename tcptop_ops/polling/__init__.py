"""The thread that polls a source, and when it does."""
