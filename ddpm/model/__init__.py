"""The network: its contract, its layers, and the file that it is shipped in."""
