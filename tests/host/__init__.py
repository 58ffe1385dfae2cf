"""Tests of tcptop_ops.host."""
