"""sample: data/model/model.safetensors -> data/samples, metrics/sample.json."""

from __future__ import annotations

import torch

from ddpm.base.files import write_json
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED, SAMPLES
from ddpm.compute.distributed import Ranks
from ddpm.data.processed import open_split
from ddpm.model.file import load_model
from ddpm.sampling.generator import Generator, forward_picture, write_samples
from ddpm.sampling.settings import Sample


def main(settings: Sample, device: torch.device, ranks: Ranks) -> None:
    model = load_model(MODEL_FILE, device)
    generator = Generator.of(model, settings, device)
    facts = write_samples(generator, settings, model.config.seed, model.image_shape, SAMPLES, ranks)
    if ranks.main:
        test, _ = open_split(PROCESSED, "test")
        forward_picture(generator.denoiser.chain, test, model.config.seed, SAMPLES / "forward.png")
        write_json(METRICS / "sample.json", facts)
