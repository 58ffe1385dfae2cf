"""Tests of the repository itself: documentation, schema, pictures, and how modules are kept."""
