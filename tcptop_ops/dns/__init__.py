"""Host and service names in place of addresses and ports: looked up in threads, and the book of what is known."""
