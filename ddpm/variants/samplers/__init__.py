"""Samplers: ``sample.sampler``. Contract: ``ddpm.sampling.sampler``."""
