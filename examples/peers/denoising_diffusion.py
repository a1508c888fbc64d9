"""The Trainer of denoising-diffusion-pytorch as an arm of a study: its Unet at about this project's size, and its own
values of all else (sigmoid schedule, v, Adam, EMA), but for the flips, which no digit survives.

    pip install denoising-diffusion-pytorch
    python examples/peers/denoising_diffusion.py --data data/processed/train/images.npy --seed 0 --out samples.npy
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import torch
from arguments import parse
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
from PIL import Image


def main() -> None:
    given = parse(__doc__)
    torch.manual_seed(given.seed)
    images = np.load(given.data)
    _, channels, size, _ = images.shape
    unet = Unet(dim=28, dim_mults=(1, 2), channels=channels)
    diffusion = GaussianDiffusion(unet, image_size=size, sampling_timesteps=given.evaluations)
    with TemporaryDirectory() as folder:  # it reads pictures from a folder
        for number, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(f"{folder}/{number:06}.png")
        steps = given.images // given.batch
        trainer = Trainer(
            diffusion,
            folder,
            train_batch_size=given.batch,
            train_lr=given.learning_rate,
            train_num_steps=steps,
            augment_horizontal_flip=False,
            calculate_fid=False,
            save_and_sample_every=steps + 1,
            results_folder=f"{folder}/results",
        )
        trainer.train()
    with torch.inference_mode():
        x = trainer.ema.ema_model.eval().sample(batch_size=given.samples)
    np.save(given.out, (x.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


if __name__ == "__main__":
    main()
