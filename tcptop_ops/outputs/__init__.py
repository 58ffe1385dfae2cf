"""A tick as text for other programs: JSON, a plain table, CSV, and metrics over HTTP."""
