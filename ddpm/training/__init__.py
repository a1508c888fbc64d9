"""Algorithm 1: batches, timesteps, EMA, the loop, and checkpoints to resume from."""
