"""Models for others: export, import and model cards."""
