"""A model fine-tuned on the score that judges it: the Fréchet distances in the features of --extractors, by gradients
through all steps of its sampler (FD-loss, arXiv:2604.28190). An arm of studies/metric_loss.yaml.

    python examples/fit_metric.py --train data/processed/train/images.npy --seed 0 --out samples.npy
"""

import argparse
import sys
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ddpm.base import progress
from ddpm.base.errors import exit_code
from ddpm.base.sections import parse
from ddpm.base.tensor import Module
from ddpm.compute import noise
from ddpm.data.processed import open_split
from ddpm.model.model_file import load_model
from ddpm.sampling.generator import Generator, write_set
from ddpm.sampling.sample_params import Sample
from ddpm.scoring import extractor
from ddpm.scoring.features import extract
from ddpm.scoring.frechet import Distance
from ddpm.variants.samplers.ddim import DDIM

DEVICE = torch.device("cpu")


def read_space(name: str, processed: Path) -> tuple[Module, Distance]:
    """An extractor's network, and the distance to the train images in its features."""
    chosen = extractor.get(name)
    with TemporaryDirectory() as folder:
        chosen.write_weights(processed, Path(folder, "weights"), DEVICE)
        network = chosen.load(Path(folder, "weights"))
    features = extract(network, open_split(processed, "train")[0], 256, DEVICE).features
    return network, Distance(features.mean(0).numpy(), torch.cov(features.double().T).numpy(), DEVICE)


def draw(generator: Generator, index: Tensor, seed: int) -> Tensor:
    """Images ``index`` of classes in turn, with their gradient: (B, C, H, W), 0 to 255."""
    denoiser, chain = generator.denoiser, generator.chain
    x_T = noise.gaussian(seed, "fit", index, 0, generator.shape)
    labels = index % denoiser.no_class
    states = generator.sampler.steps(
        lambda x, t: denoiser.estimate(x, torch.full_like(index, t), labels), x_T, chain, None, None
    )
    return (deque(states, maxlen=1).pop().clamp(-1, 1) + 1) * 127.5


def distance(features: Tensor, target: Distance) -> Tensor:
    """``Distance`` with a gradient, less the part that does not depend on the features, (B, D)."""
    features = features.double()
    sigma = torch.cov(features.T)
    product = torch.linalg.eigvalsh(target.root @ sigma @ target.root).clamp(min=1e-12).sqrt().sum()
    return (features.mean(0) - target.mu).square().sum() + sigma.trace() + target.sigma.trace() - 2 * product


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/digits/model.safetensors"))
    parser.add_argument("--train", type=Path, required=True, help="images.npy of the train split")
    parser.add_argument("--out", type=Path, required=True, help=".npy to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--extractors", nargs="*", default=[], help="whose distances are the loss")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--batch", type=int, default=512, help="images of an iteration")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=4, help="of the sampler")
    parser.add_argument("--samples", type=int, default=720)
    given = parser.parse_args()
    model = load_model(given.model, DEVICE)
    drawn = {"count": given.samples, "steps": given.steps, "sampler": DDIM(), "precision": "float32"}
    options = parse({**drawn, "clip_denoised": False}, "sample", Sample)
    generator = Generator.of(model, options, DEVICE)
    spaces = [read_space(name, given.train.parents[1]) for name in given.extractors]
    parameters = list(generator.denoiser.network.requires_grad_(bool(spaces)).parameters())
    optimizer = torch.optim.Adam(parameters, given.learning_rate)
    iterations = given.iterations if spaces else 0
    with progress.bar(iterations, "fit", "step") as bar:
        for step in range(iterations):
            index = torch.arange(step * given.batch, (step + 1) * given.batch)
            images = draw(generator, index, given.seed)
            losses = [distance(network(images).features, target) for network, target in spaces]
            optimizer.zero_grad()
            torch.stack(losses).log().sum().backward()
            optimizer.step()
            bar.update()
    write_set(generator, options, given.seed, given.out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
