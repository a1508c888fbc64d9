"""Processed data without a dataset."""

from pathlib import Path

import numpy as np

from ddpm.base import files


def write_noise(folder: Path, channels: int, height: int, width: int, count: int = 40) -> Path:
    """Noise of two classes, one bright and one dark, as a processed dataset."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = generator.integers(0, 128, (count, channels, height, width)) + 128 * labels[:, None, None, None]
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images.astype(np.uint8))
        np.save(folder / split / "labels.npy", labels)
    manifest = {
        "dataset": "noise", "classes": ["dark", "bright"], "image_size": [height, width], "channels": channels,
        "counts": {"train": count, "test": count}, "skipped": 0, "config": "",
        "sha256": {split: files.sha256(folder / split) for split in ("train", "test")},
    }  # fmt: skip
    files.write_json(folder / "manifest.json", manifest)
    return folder
