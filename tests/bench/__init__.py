"""What it costs: measured, never asserted. See docs/cost.md."""
