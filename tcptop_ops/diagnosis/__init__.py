"""What is wrong with a row, and with many of them. Pure."""
