"""Two snapshots to rates, windows and totals. Pure."""
