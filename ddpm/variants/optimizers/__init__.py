"""Optimizers: ``train.optimizer``. Contract: ``ddpm.training.optimizer``."""
