"""Networks: ``model``. Contract: ``ddpm.model.architecture``."""
