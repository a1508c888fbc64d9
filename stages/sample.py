"""sample: data/model/model.safetensors -> data/samples, metrics/sample.json."""

from __future__ import annotations

from ddpm.base.files import write_json
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED, SAMPLES
from ddpm.compute import devices, distributed
from ddpm.data.processed import open_split
from ddpm.model.file import load_model
from ddpm.params.config import Config
from ddpm.params.inputs import Start
from ddpm.sampling import generator as sampling
from ddpm.tracking import tracker
from ddpm.training.checkpoints import forget_finished, recorded
from stages import ranks


def main(config: Config, start: Start) -> None:
    device = devices.resolve(config.device)
    model = load_model(MODEL_FILE, device)
    generator = sampling.Generator.of(model, config.sample, device)
    here = distributed.current()
    facts = sampling.write_samples(generator, config.sample, model.config.seed, model.image_shape, SAMPLES, here)
    if here.main:
        forget_finished(start.inputs.files[str(MODEL_FILE)], recorded(start.params))
        test, _ = open_split(PROCESSED, "test")
        sampling.forward_picture(generator.denoiser.chain, test, model.config.seed, SAMPLES / "forward.png")
        write_json(METRICS / "sample.json", facts)
        start.check()
        tracker.sync("sample", start.params)


if __name__ == "__main__":
    ranks.run("sample", main)
