"""MLflow: one run for each result, made from the record."""
