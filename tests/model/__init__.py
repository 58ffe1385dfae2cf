"""Tests of tcptop_ops.model."""
