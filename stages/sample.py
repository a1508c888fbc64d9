"""sample: data/model/model.safetensors -> data/samples, metrics/sample.json."""

from __future__ import annotations

from ddpm import devices, sampling, tracking
from ddpm.checkpoint import load_model
from ddpm.config import Config
from ddpm.files import write_json
from ddpm.processed import open_split
from stages import METRICS, MODEL, PROCESSED, SAMPLES, run


def main(config: Config, fingerprint: str) -> None:
    device = devices.resolve(config.device)
    model = load_model(MODEL / "model.safetensors", device)
    generator = sampling.Generator.of(model, config.sample, device)
    facts = sampling.write_samples(generator, config.sample, config.seed, model.image_shape, SAMPLES)
    test, _ = open_split(PROCESSED, "test")
    sampling.forward_picture(generator.denoiser.chain, test, config.seed, SAMPLES / "forward.png")
    write_json(METRICS / "sample.json", facts)
    tracking.sync("sample")


if __name__ == "__main__":
    run("sample", main)
