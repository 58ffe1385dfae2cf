"""Tests of tcptop_ops.widgets."""
