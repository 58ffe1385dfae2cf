"""Tests of tcptop_ops.explain."""
