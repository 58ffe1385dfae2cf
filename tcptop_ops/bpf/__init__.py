"""The kernel's side: the programs in C, what loads and attaches them, and what reads their maps."""
