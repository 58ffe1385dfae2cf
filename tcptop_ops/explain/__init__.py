"""Columns, causes, operators and single connections, told in words. Pure."""
