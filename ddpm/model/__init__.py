"""The network: its contract, its layers, and the model file."""
