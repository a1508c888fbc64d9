"""Noise schedules: ``diffusion.schedule``. Contract: ``ddpm.diffusion.schedule``."""
