"""Where work is done: devices, ranks, and noise that depends on neither."""
