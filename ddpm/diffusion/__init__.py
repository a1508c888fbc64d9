"""The paper: schedule, chain, parameterization, variance and loss."""
