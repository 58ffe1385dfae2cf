"""Tests of tcptop_ops.sources."""
