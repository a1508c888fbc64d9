"""MLflow: one run per configuration, a view of the files that DVC keeps."""
