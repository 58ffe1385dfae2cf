"""Tests of tcptop_ops.outputs."""
