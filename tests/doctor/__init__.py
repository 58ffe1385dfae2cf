"""Tests of tcptop_ops.doctor."""
