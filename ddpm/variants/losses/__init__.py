"""Training objectives: ``diffusion.loss``. Contract: ``ddpm.diffusion.loss``."""
