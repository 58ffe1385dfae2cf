"""The kernel's side: the program, how it is loaded, and the source that reads what it tells."""
