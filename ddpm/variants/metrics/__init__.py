"""Metrics: ``evaluate.metrics``. Contract: ``ddpm.scoring.metric``."""
