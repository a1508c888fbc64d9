"""Tools: what measures or examines on demand, and no stage runs."""
