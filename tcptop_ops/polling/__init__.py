"""When a source is polled, the threads in which that happens, and what is told of each tick."""
