"""data/samples, data/model, data/processed and data/reference -> metrics/evaluate.json and others, data/evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from ddpm import devices, distributed, evaluation, images, tracking
from ddpm.checkpoint import load_model
from ddpm.config import Config
from ddpm.files import write_json, write_rows
from ddpm.reference import read_reference
from ddpm.samples import set_paths
from stages import METRICS, MODEL, PROCESSED, REFERENCE, SAMPLES, ranks

EVALUATION = Path("data/evaluation")


def main(config: Config, fingerprint: str) -> None:
    settings = config.evaluate
    device = devices.resolve(config.device)
    model = load_model(MODEL / "model.safetensors", device)
    sets = set_paths(SAMPLES, config.sample.seeds)
    here = distributed.current()
    found = evaluation.evaluate(sets, PROCESSED, REFERENCE, model, settings, device, here)
    if not here.main:
        return
    comparable = evaluation.fingerprint(read_reference(REFERENCE), settings, config.sample, device)
    write_rows(METRICS / "scores.csv", found.sets, ["seed"])
    write_rows(METRICS / "fd_n.csv", found.fd_n, ["extractor", "n", "fd", "fd_sd"])
    write_rows(METRICS / "likelihood.csv", found.bound, ["t", "steps"])
    nearest = torch.from_numpy(found.nearest)
    images.save_grid(nearest.flatten(0, 1), EVALUATION / "nearest.png", columns=nearest.shape[1])
    write_json(METRICS / "evaluate.json", found.scores)
    write_json(METRICS / "fingerprint.json", comparable)
    tracking.sync("evaluate")


if __name__ == "__main__":
    ranks.run("evaluate", main)
