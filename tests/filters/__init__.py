"""Tests of tcptop_ops.filters."""
