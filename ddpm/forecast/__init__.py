"""What the next run takes, in time and memory, before it starts."""
