"""What changes with threads and with CPU kernels: ``python -m tests.hostile.across`` trains, samples and scores anew on
each, and prints a table. Two minutes on two quiet cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS, SAMPLES = 150, 256
PLACES = [("avx512", 1), ("avx512", 2), ("avx2", 1), ("default", 1)]
ROOT = Path(__file__).parents[2]


def measure() -> None:
    """In a process of its own: print a JSON object of the model's and the samples' digests, the loss and the score."""
    import numpy as np
    import torch

    from ddpm import config, extractors, files, frechet, samples, sampling
    from ddpm.checkpoint import Checkpoints, load_model
    from ddpm.extractors.classifier import Classifier
    from ddpm.preprocessing import preprocess
    from ddpm.processed import open_split
    from ddpm.training import train
    from tests.small import Memory, small

    cpu = torch.device("cpu")
    preset = config.load(ROOT / "ddpm/presets/digits.yaml")
    preset.data.dataset.download(None, Path("raw"))
    preprocess(preset.data, Path("raw"), Path("processed"), workers=1)
    unet = {"base_channels": 16, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 8}
    chosen = small(
        data={"image_size": 16},
        model={"name": "unet", "unet": unet},
        train={"steps": STEPS, "batch_size": 32, "learning_rate": 3e-3},
        sample={"count": SAMPLES, "batch_size": 64, "steps": 20},
    )
    images, _ = open_split(Path("processed"), "train")
    history = train(chosen.training(), images, cpu, Path("model"), Checkpoints("across"), Memory())
    model = load_model(Path("model/model.safetensors"), cpu)
    generator = sampling.Generator.of(model, chosen.sample, cpu)
    sampling.write_set(generator, chosen.sample, samples.noise_seed(0, 0), model.image_shape, Path("samples.npy"))
    extractor = Classifier()
    extractor.write_weights(Path("processed"), Path("weights.safetensors"), cpu)
    network = extractor.load(Path("weights.safetensors"))
    real = extractors.extract(network, images, 64, cpu).features.double().numpy()
    fake = extractors.extract(network, samples.read_samples(Path("samples.npy")), 64, cpu).features
    found = {
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "model": files.sha256(Path("model/model.safetensors")),
        "samples": files.sha256(Path("samples.npy")),
        "loss": history.facts()["loss"],
        "fd": frechet.Distance(real.mean(0), np.cov(real.T), cpu)(fake),
    }
    print(json.dumps(found))


def measured(kernels: str, threads: int) -> dict[str, object]:
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": kernels,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.hostile.across", "measure"]
        answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    print(f"{STEPS} steps on 16x16 digits, {SAMPLES} samples, classifier.fd\n")
    print("| ATEN_CPU_CAPABILITY | kernels | threads | model | samples | loss | classifier.fd |")
    print("| --- | --- | ---: | --- | --- | ---: | ---: |")
    for kernels, threads in [PLACES[0], *PLACES]:  # the first twice: the same bytes
        found = measured(kernels, threads)
        digests = f"{str(found['model'])[:8]} | {str(found['samples'])[:8]}"
        numbers = f"{found['loss']:.6f} | {found['fd']:.5f}"
        print(f"| {kernels} | {found['kernels']} | {found['threads']} | {digests} | {numbers} |", flush=True)


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
