"""Settings, the settings file and the table of keys."""
