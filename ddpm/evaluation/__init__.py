"""How the evaluate stage assesses a model: scores, likelihood, memorisation."""
