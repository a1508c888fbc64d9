"""Where the work runs: devices, ranks, and noise that depends on neither."""
