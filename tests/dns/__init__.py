"""Tests of tcptop_ops.dns."""
