"""Tests of tcptop_ops.diagnosis."""
