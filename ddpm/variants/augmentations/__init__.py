"""What is done to training images: ``train.augmentation``. Contract: ``ddpm.training.augmentation``."""
