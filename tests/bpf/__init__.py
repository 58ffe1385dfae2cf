"""Tests of tcptop_ops.bpf."""
