"""What the network predicts: ``diffusion.parameterization``. Contract: ``ddpm.diffusion.parameterization``."""
