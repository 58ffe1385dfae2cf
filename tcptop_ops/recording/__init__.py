"""Recordings: written, read, played, and kept in memory for the moment that something goes wrong."""
