"""Tests of the real program with a real kernel: they need root."""
