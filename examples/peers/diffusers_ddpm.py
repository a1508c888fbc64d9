"""The unconditional training example of diffusers as an arm of a study: its UNet2DModel at about this project's size,
its DDPM scheduler, and AdamW, the cosine rate with warm-up and EMA with that example's own values.

    pip install diffusers
    python examples/peers/diffusers_ddpm.py --data data/processed/train/images.npy --seed 0 --out samples.npy
"""

from __future__ import annotations

import numpy as np
import torch
from arguments import parse
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch.nn.functional import mse_loss

WARMUP = 500  # steps, as in the example


def network(channels: int, size: int) -> UNet2DModel:
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(32, 48),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def main() -> None:
    given = parse(__doc__)
    torch.manual_seed(given.seed)
    images = torch.from_numpy(np.load(given.data)).float() / 127.5 - 1
    model = network(images.shape[1], images.shape[-1])
    scheduler = DDPMScheduler()
    steps = given.images // given.batch
    optimizer = torch.optim.AdamW(model.parameters(), given.learning_rate, betas=(0.95, 0.999), weight_decay=1e-6)
    rate = get_cosine_schedule_with_warmup(optimizer, WARMUP, steps)
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    order: torch.Tensor = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < given.batch:
            order = torch.cat([order, torch.randperm(len(images))])
        batch, order = images[order[: given.batch]], order[given.batch :]
        noise, t = torch.randn_like(batch), torch.randint(len(scheduler), (len(batch),))
        loss = mse_loss(model(scheduler.add_noise(batch, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
    ema.copy_to(model.parameters())
    scheduler.set_timesteps(given.evaluations)
    x = torch.randn(given.samples, *images.shape[1:])
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t).sample, t, x).prev_sample
    np.save(given.out, ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())


if __name__ == "__main__":
    main()
