"""Tests of tcptop_ops.views."""
