"""Host and service names."""
