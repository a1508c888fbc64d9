"""What the evaluate stage says of a model: scores, likelihood, memorisation."""
