"""Tests of tcptop_ops.tracking."""
