"""The table of connections."""
