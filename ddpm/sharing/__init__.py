"""Models for others: export and model cards."""
