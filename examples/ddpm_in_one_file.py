"""Denoising diffusion, top to bottom: data, noise schedule, Algorithm 1, Algorithm 2, a grid of new digits.

    python examples/ddpm_in_one_file.py                # two minutes on one core; writes digits.png
    python examples/ddpm_in_one_file.py --steps 1200   # four minutes, and cleaner digits

These are the library's own parts, put together by hand in the order of Ho et al. 2020 (arXiv:2006.11239), without the
pipeline around them. Equations and algorithms are the paper's. Images x are (B, C, H, W) in [-1, 1]; t is 1, 2, ..., T.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from ddpm.base.progress import bar
from ddpm.base.sections import Shape
from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import Chain, from_images, to_images
from ddpm.diffusion.coefficients import posterior_mean, q_sample
from ddpm.pictures.grids import save_grid
from ddpm.training.ema import EMA
from ddpm.variants.datasets.digits import Digits
from ddpm.variants.emas.constant import ConstantEMA
from ddpm.variants.networks.unet import UNet
from ddpm.variants.parameterizations.v import V
from ddpm.variants.schedules.cosine import Cosine

T = 1000
BATCH = 64
LEARNING_RATE = 2e-3
SHAPE = (1, 16, 16)
# What the network predicts. For epsilon, x_0 or the mean, change only this line.
PREDICT = V()


def digits() -> Tensor:
    """Handwritten digits that come with scikit-learn, (1438, 1, 16, 16), in [-1, 1]."""
    data = Data(dataset=Digits(), image_size=16, channels=1, resize="squash", test_fraction=0.2)
    with TemporaryDirectory() as folder:
        raw, processed = Path(folder, "raw"), Path(folder, "processed")
        data.dataset.download(None, raw)
        preprocess(data, raw, processed)
        images, _ = open_split(processed, "train")
        return from_images(torch.tensor(images))


def forward_process() -> Chain:
    """q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I), equation 4, for every t: a table of constants."""
    return Chain(Cosine().noise_schedule(T))


def train(x: Tensor, chain: Chain, steps: int) -> nn.Module:
    """Algorithm 1: noise a batch to random t, and have the network predict what was mixed in.

    Return the network with the average of its weights.
    """
    architecture = UNet(
        patch_size=2,
        base_channels=32,
        multipliers=(1, 2),
        blocks=1,
        attention_sizes=(),
        middle_attention=True,
        groups=8,
    )
    network = architecture.network(Shape(channels=1, height=16, width=16), outputs=1)
    average = EMA(network, ConstantEMA(value=0.998, warmup=True).decay)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    with bar(steps, "train", "step") as progress:
        for step in range(1, steps + 1):
            x_0 = x[torch.randint(len(x), (BATCH,))]  #                      line 2: x_0 ~ q(x_0)
            t = torch.randint(1, T + 1, (BATCH,))  #                         line 3: t ~ Uniform({1, ..., T})
            epsilon = torch.randn_like(x_0)  #                               line 4: epsilon ~ N(0, I)
            at = chain.at(t)
            x_t = q_sample(x_0, epsilon, at)
            target = PREDICT.target(x_0, epsilon, at)
            loss = (network(x_t, t) - target).square().mean()  #             line 5: a step on the squared error

            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            decay.step()
            average.update(step)
            progress.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
            progress.update()

    network.load_state_dict(average.averages)
    return network.eval()


@torch.inference_mode()
def sample(network: nn.Module, chain: Chain, count: int) -> Tensor:
    """Algorithm 2: from noise in T small steps, each to the mean of q(x_{t-1} | x_t, x_0) plus a little noise."""
    x = torch.randn(count, *SHAPE)  #                                        line 1: x_T ~ N(0, I)
    with bar(T, "sample", "step") as progress:
        for t in range(T, 0, -1):
            at = chain.at_step(t)
            output = network(x, torch.full((count,), t))
            x_0 = PREDICT.predict(output, x, at).x_0.clamp(-1, 1)  #         the image that the network predicts
            x = posterior_mean(x_0, x, at)  #                                equation 7
            if t > 1:  #                                                     line 3: no noise in the last step
                x = x + (0.5 * at.log_beta_tilde).exp() * torch.randn_like(x)
            progress.update()
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=550, help="of training (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("digits.png"), help="the grid of samples (%(default)s)")
    options = parser.parse_args()

    torch.manual_seed(0)
    chain = forward_process()
    network = train(digits(), chain, options.steps)
    samples = sample(network, chain, count=16)
    save_grid(to_images(samples), options.out)
    print(f"{len(samples)} new digits: {options.out}")


if __name__ == "__main__":
    main()
