"""Tests of tcptop_ops.cli."""
