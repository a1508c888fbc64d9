"""sample: data/model/model.safetensors, data/model/snapshots -> data/samples, metrics/sample.json."""

import torch

from ddpm.base.files import write_json
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED, SAMPLES, SNAPSHOTS
from ddpm.compute.distributed import Ranks
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import from_images
from ddpm.model import averages
from ddpm.model.model_file import load_model
from ddpm.sampling.generator import Generator, forward_picture, write_samples, write_set
from ddpm.sampling.sample_params import Sample
from ddpm.sampling.samples import noise_seed, set_paths


def main(settings: Sample, device: torch.device, ranks: Ranks, films: bool = True) -> None:
    model = averages.load(MODEL_FILE, settings.ema_length, device)
    mean = None
    if settings.contrast:
        train, _ = open_split(PROCESSED, "train")
        mean = from_images(torch.from_numpy(train.mean(axis=0))).to(device)
    generator = Generator.of(model, settings, device, mean)
    title = f"step {model.facts['steps']:,}"
    facts = write_samples(generator, settings, model.config.seed, SAMPLES, ranks, title, films)
    for snapshot in sorted(SNAPSHOTS.glob("*.safetensors")):  # from the same noise
        generator_then = Generator.of(load_model(snapshot, device), settings, device, mean)
        for seed, path in set_paths(SAMPLES / SNAPSHOTS.name / snapshot.stem, settings.seeds).items():
            write_set(generator_then, settings, noise_seed(model.config.seed, seed), path, ranks)
    if ranks.main:
        test, _ = open_split(PROCESSED, "test")
        forward_picture(generator.denoiser.chain, test, model.config.seed, SAMPLES / "forward.png")
        write_json(METRICS / "sample.json", facts | {"config": settings.identity()})
