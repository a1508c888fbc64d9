"""Datasets: ``data.dataset``. Contract: ``ddpm.sources.dataset``."""
