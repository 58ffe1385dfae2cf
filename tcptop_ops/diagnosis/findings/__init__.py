"""What many bad rows share, told as findings: bad rows, groups of them, the search for the best group, and words."""
