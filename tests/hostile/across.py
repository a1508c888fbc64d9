"""What changes with precision, CPU kernels and threads.

``python -m tests.hostile.across`` trains, samples and scores again with each, and prints a table: five minutes on two
quiet cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS, SAMPLES = 150, 256
KERNELS, LIMIT = "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"  # of torch, and of oneDNN, which has most of the work
# precision, the widest kernels and the widest instructions that are allowed, threads
PLACES = [
    ("float32", "avx512", "", 1),
    ("float32", "avx2", "AVX2", 1),
    ("float32", "default", "SSE41", 1),
    ("float32", "avx512", "", 2),
    ("bfloat16", "avx512", "", 1),
    ("bfloat16", "avx512", "AVX512_CORE", 1),  # without products of bfloat16
    ("bfloat16", "avx512", "", 2),
]
ROOT = Path(__file__).parents[2]


def measure(precision: str) -> None:
    """In its own process: print a JSON object of the model's and the samples' digests, the loss and the score."""
    import numpy as np
    import torch

    from ddpm.base import files
    from ddpm.data.preprocessing import preprocess
    from ddpm.data.processed import open_split
    from ddpm.model.model_file import load_model
    from ddpm.params import config
    from ddpm.sampling import generator as sampling
    from ddpm.sampling import samples
    from ddpm.scoring import frechet
    from ddpm.scoring.features import extract
    from ddpm.training.checkpoints import Checkpoints
    from ddpm.training.trainer import train
    from ddpm.variants.extractors.classifier import Classifier
    from tests.small import Memory, small

    cpu = torch.device("cpu")
    preset = config.load(ROOT / "ddpm/presets/digits.yaml")
    preset.data.dataset.download(None, Path("raw"))
    preprocess(preset.data, Path("raw"), Path("processed"), workers=1)
    unet = {"base_channels": 16, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 8}
    chosen = small(
        data={"image_size": 16},
        model={"name": "unet", "unet": unet},
        train={"steps": STEPS, "batch_size": 32, "learning_rate": 3e-3, "precision": precision},
        sample={"count": SAMPLES, "batch_size": 64, "steps": 20, "precision": precision},
    )
    images, _ = open_split(Path("processed"), "train")
    history = train(chosen.training(), images, cpu, Path("model"), Checkpoints("across"), Memory())
    model = load_model(Path("model/model.safetensors"), cpu)
    generator = sampling.Generator.of(model, chosen.sample, cpu)
    sampling.write_set(generator, chosen.sample, samples.noise_seed(0, 0), model.image_shape, Path("samples.npy"))
    extractor = Classifier()
    extractor.write_weights(Path("processed"), Path("weights.safetensors"), cpu)
    network = extractor.load(Path("weights.safetensors"))
    real = extract(network, images, 64, cpu).features.double().numpy()
    fake = extract(network, samples.read_samples(Path("samples.npy")), 64, cpu).features
    found = {
        "model": files.sha256(Path("model/model.safetensors")),
        "samples": files.sha256(Path("samples.npy")),
        "loss": history.facts()["loss"],
        "fd": frechet.Distance(real.mean(0), np.cov(real.T), cpu)(fake),
    }
    print(json.dumps(found))


def measured(precision: str, kernels: str, limit: str, threads: int) -> dict[str, object]:
    wanted = {KERNELS: kernels, LIMIT: limit, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in {**os.environ, **wanted}.items() if value}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.hostile.across", precision]
        answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    print(f"{STEPS} steps on 16x16 digits, {SAMPLES} samples, classifier.fd\n")
    print(f"| precision | {KERNELS} | {LIMIT} | threads | model | samples | loss | classifier.fd |")
    print("| --- | --- | --- | ---: | --- | --- | ---: | ---: |")
    for precision, *place in [PLACES[0], *PLACES]:  # the first one twice: it gives the same bytes
        found = measured(precision, *place)
        digests = f"{str(found['model'])[:8]} | {str(found['samples'])[:8]}"
        numbers = f"{found['loss']:.6f} | {found['fd']:.5f}"
        print(f"| {precision} | {' | '.join(map(str, place))} | {digests} | {numbers} |", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if sys.argv[1:] else main()
