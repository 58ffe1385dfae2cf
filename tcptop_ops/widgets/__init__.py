"""What draws: no arithmetic, no I/O."""
