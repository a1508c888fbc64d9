"""Profiles of the average of the weights: ``train.ema``. Contract: ``ddpm.training.ema``."""
