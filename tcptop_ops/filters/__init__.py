"""The filter language. Pure."""
