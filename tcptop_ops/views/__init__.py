"""Rows to columns in an order. Pure."""
