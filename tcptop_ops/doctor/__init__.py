"""What this host supports: tried, and told."""
