"""How t is drawn in training: ``train.timestep_sampler``. Contract: ``ddpm.training.timesteps``."""
