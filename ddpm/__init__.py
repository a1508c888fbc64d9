"""Denoising Diffusion Probabilistic Models: train, sample, score and compare them reproducibly."""
