"""The time and memory of the next run, before it starts."""
