"""Tests of tcptop_ops.config."""
