"""The variance of the reverse step: ``diffusion.variance``. Contract: ``ddpm.diffusion.variance``."""
