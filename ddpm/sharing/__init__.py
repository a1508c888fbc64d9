"""Models for others: export, import, model cards and serving."""
